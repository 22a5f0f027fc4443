//! Names that are resolved again and again.

use std::collections::VecDeque;
use std::io;

use async_trait::async_trait;
use nodekit::config::GrpcConfig;
use nodekit::metrics::Metrics;

use super::*;
use crate::config::LbConfig;
use crate::remote::Io;

/// A network without a listener.
struct Nobody;

#[async_trait]
impl Connector for Nobody {
    async fn connect(&self, _: &str) -> io::Result<Box<dyn Io>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// What a name resolves to, one look after the other; then nothing.
struct Script(Mutex<VecDeque<&'static [&'static str]>>);

#[async_trait]
impl Resolver for Script {
    async fn resolve(&self, _: &HostPort) -> io::Result<Vec<HostPort>> {
        let next = self.0.lock().expect("not poisoned").pop_front();
        let addresses = next.ok_or(io::ErrorKind::NotFound)?;
        Ok(addresses.iter().map(|address| host_port(address)).collect())
    }
}

fn host_port(text: &str) -> HostPort {
    HostPort::parse(text).expect("an address")
}

#[tokio::test(start_paused = true)]
async fn every_address_of_a_name_is_a_runner_until_it_is_gone() {
    let script: [&[&str]; 2] = [&["10.0.0.1:1", "10.0.0.2:1"], &["10.0.0.2:1", "10.0.0.3:1"]];
    let mut metrics = Metrics::new();
    let parts = RunnersParts {
        connector: Arc::new(Nobody),
        metrics: Arc::new(PlacerMetrics::new(&mut metrics)),
    };
    let sources = Sources {
        names: vec![host_port("runners.local:1")],
        ..Sources::default()
    };
    let settings = LbConfig::default().runners_settings(&GrpcConfig::default(), || 1 << 63);
    let resolver = Arc::new(Script(Mutex::new(script.into())));
    let runners = Runners::start_with(parts, settings, sources, resolver);
    let addresses = || -> Vec<_> {
        let view = runners.view();
        view.iter()
            .map(|runner| (runner.address.to_string(), runner.id))
            .collect()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = addresses();
    assert_eq!(first.len(), 2);
    assert_eq!(
        (first[0].0.as_str(), first[1].0.as_str()),
        ("10.0.0.1:1", "10.0.0.2:1")
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let second = addresses();
    assert_eq!(
        (&second[0], second[1].0.as_str()),
        (&first[1], "10.0.0.3:1")
    );
    // The name cannot be resolved any more: what it was last holds.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(addresses(), second);
    let text = metrics.render();
    assert!(!text.contains("fn_lb_placer_rp_error_count 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn its_tasks_end_with_it() {
    let mut metrics = Metrics::new();
    let parts = RunnersParts {
        connector: Arc::new(Nobody),
        metrics: Arc::new(PlacerMetrics::new(&mut metrics)),
    };
    let sources = Sources {
        addresses: vec![host_port("10.0.0.1:1")],
        names: vec![host_port("runners.local:1")],
        ..Sources::default()
    };
    let settings = LbConfig::default().runners_settings(&GrpcConfig::default(), || 1 << 63);
    let resolver = Arc::new(Script(Mutex::default()));
    let runners = Runners::start_with(parts, settings, sources, resolver);
    let tasks = runners.shared.tasks.clone();
    assert!(!tasks.is_empty());
    drop(runners);
    tokio::time::timeout(Duration::from_secs(10), tasks.wait())
        .await
        .expect("the tasks end");
}
