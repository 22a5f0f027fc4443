//! The lists in `docs/` are those of the code. `UPDATE_DOCS=1` writes them anew.

use std::fmt::Write as _;

use api_node::calls::CallsMetrics;
use api_node::config::{ApiConfig, CallsConfig};
use api_node::queue::QueueMetrics;
use domain::ErrorCode;
use hearth_tests::binary::repository;
use hybrid_client::config::HybridConfig;
use lb::config::LbConfig;
use lb::{FrontDoorMetrics, PlacerMetrics, RecorderMetrics};
use nodekit::api_metrics::ApiMetrics;
use nodekit::config::{GrpcConfig, NodeConfig};
use nodekit::metrics::Metrics;
use nodekit::settings::{Settings as _, markdown};
use runner_node::call_log::LogMetrics;
use runner_node::config::RunnerConfig;
use runner_node::driver::docker::metrics::DockerMetrics;
use runner_node::metrics::RunnerMetrics;
use runner_node::work::WorkMetrics;

const BEGIN: &str = "<!-- generated, do not edit -->\n";
const END: &str = "<!-- end of what is generated -->\n";

/// Compares what stands between the marks of a document, or writes it.
#[track_caller]
fn is_current(document: &str, expected: &str) {
    let path = repository().join("docs").join(document);
    let text = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (found, after) = rest.split_once(END).expect("the end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}"))
            .expect("the document can be written");
        return;
    }
    assert_eq!(
        found, expected,
        "docs/{document} is not current: run this test with UPDATE_DOCS=1"
    );
}

#[test]
fn configuration() {
    let mut expected = String::new();
    for (title, table) in [
        ("Every node", NodeConfig::TABLE),
        ("Between nodes", GrpcConfig::TABLE),
        (
            "Load balancers and runners of a cluster",
            HybridConfig::TABLE,
        ),
        ("API", ApiConfig::TABLE),
        ("Calls", CallsConfig::TABLE),
        ("Front door and load balancer", LbConfig::TABLE),
        ("Runner", RunnerConfig::TABLE),
    ] {
        write!(expected, "\n## {title}\n\n{}\n", markdown(table)).expect("a string takes all");
    }
    is_current("configuration.md", &expected);
}

#[test]
fn errors() {
    let mut expected =
        "\n| code | status | blame | retry | message |\n|---|---|---|---|---|\n".to_owned();
    for code in ErrorCode::ALL {
        let retry = match (code.retryable(), code.retry_after_seconds()) {
            (true, Some(seconds)) => format!("after {seconds} s"),
            (true, None) => "yes".to_owned(),
            (false, _) => String::new(),
        };
        let (name, status, blame, text) = (
            code.name(),
            code.status(),
            code.blame().as_str(),
            code.text(),
        );
        writeln!(
            expected,
            "| {name} | {status} | {blame} | {retry} | {text} |"
        )
        .expect("a string takes all");
    }
    expected.push('\n');
    is_current("errors.md", &expected);
}

#[test]
fn metrics() {
    let mut metrics = Metrics::new();
    let api = ApiMetrics::new(&mut metrics);
    FrontDoorMetrics::new(&mut metrics, api);
    PlacerMetrics::new(&mut metrics);
    CallsMetrics::new(&mut metrics);
    QueueMetrics::new(&mut metrics);
    RecorderMetrics::new(&mut metrics);
    RunnerMetrics::new(&mut metrics);
    WorkMetrics::new(&mut metrics);
    LogMetrics::new(&mut metrics);
    DockerMetrics::new(&mut metrics);
    let mut expected =
        "\n| name | kind | labels | what it measures |\n|---|---|---|---|\n".to_owned();
    for info in metrics.listing() {
        let labels = info.labels.join(", ");
        writeln!(
            expected,
            "| `{}` | {} | {labels} | {} |",
            info.name, info.kind, info.help
        )
        .expect("a string takes all");
    }
    expected.push('\n');
    is_current("metrics.md", &expected);
}

/// Rows of promises without a test say why.
const WITHOUT_A_TEST: [&str; 2] = ["not built", "measured"];

#[test]
fn every_promise_of_durable_calls_has_tests_that_exist() {
    let document = repository().join("docs/reliability.md");
    let text = std::fs::read_to_string(&document).expect("the document");
    let (_, promises) = text
        .split_once("## Promises and their tests")
        .expect("the promises");
    let (promises, _) = promises.split_once("\n## ").unwrap_or((promises, ""));
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    // Behind the heading; those in bold are titles.
    let rows: Vec<_> = rows
        .skip(1)
        .filter(|row| !row.starts_with("| **"))
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let tests: Vec<_> = row.split("[`").skip(1).collect();
        let excused = WITHOUT_A_TEST.iter().any(|reason| row.contains(reason));
        assert!(!tests.is_empty() || excused, "no test: {row}");
        for test in tests {
            let (name, rest) = test.split_once("`](").expect("a link");
            let (file, _) = rest.split_once(')').expect("the end of a link");
            let path = document.parent().expect("a folder").join(file);
            let code = std::fs::read_to_string(&path).expect(file);
            assert!(
                code.contains(&format!("fn {name}(")),
                "{file} has no test {name}"
            );
        }
    }
}

/// What a reader follows in a document leads somewhere.
#[test]
fn links_between_documents_lead_to_files() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/operations.md",
        "docs/reliability.md",
        "docs/deployment.md",
        "docs/placement.md",
        "examples/README.md",
    ];
    for document in documents {
        let path = repository().join(document);
        let text = std::fs::read_to_string(&path).expect(document);
        let folder = path.parent().expect("a document is in a folder");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
        {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(
                folder.join(file).exists(),
                "{document} links to {file}, which is not there"
            );
        }
    }
}
