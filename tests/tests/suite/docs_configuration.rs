//! `docs/configuration.md` lists exactly the settings that the nodes declare. `UPDATE_DOCS=1` writes
//! the lists anew.

use std::fmt::Write as _;
use std::path::Path;

use api_node::config::ApiConfig;
use lb::config::LbConfig;
use nodekit::config::NodeConfig;
use nodekit::settings::{Settings as _, markdown};
use runner_node::config::RunnerConfig;

const BEGIN: &str = "<!-- settings: generated, do not edit -->\n";
const END: &str = "<!-- end of settings -->\n";

#[test]
fn the_configuration_document_is_current() {
    let mut expected = String::new();
    for (title, table) in [
        ("Every node", NodeConfig::TABLE),
        ("API", ApiConfig::TABLE),
        ("Front door", LbConfig::TABLE),
        ("Runner", RunnerConfig::TABLE),
    ] {
        write!(expected, "\n## {title}\n\n{}", markdown(table)).expect("a string takes all");
    }
    expected.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let document = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let (before, rest) = document.split_once(BEGIN).expect("the begin mark");
    let (found, after) = rest.split_once(END).expect("the end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let document = format!("{before}{BEGIN}{expected}{END}{after}");
        std::fs::write(&path, document).expect("docs/configuration.md can be written");
        return;
    }
    assert_eq!(
        found, expected,
        "docs/configuration.md is not current: run this test with UPDATE_DOCS=1"
    );
}
