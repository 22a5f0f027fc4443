//! How long a call waited, told to its client (spec/07 7.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use domain::{
    ApiError, App, AppDraft, AppId, Change, FnId, Func, FuncDraft, IdSource, Timestamp, Trigger,
    TriggerDraft, TriggerId, TriggerKind,
};
use http::{Method, Request, Response};
use hybrid_client::{CacheSettings, CachedControlPlane, ControlPlane};
use hyper::service::Service as _;
use lb::config::LbConfig;
use lb::{CallLimits, CallTasks, FrontDoor, FrontDoorMetrics, FrontDoorParts};
use nodekit::api_metrics::ApiMetrics;
use nodekit::body::{self, Body};
use nodekit::metrics::Metrics;
use proto::runner::CallFinished;
use tokio::sync::broadcast;

use crate::balancer::Balancer;
use crate::peer::{Net, Peer};

/// One function with one trigger.
struct Plane(broadcast::Sender<Change>);

#[async_trait]
impl ControlPlane for Plane {
    async fn app_by_name(&self, _: &str) -> Result<Arc<App>, ApiError> {
        self.app(&AppId::from("app")).await
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        let draft = AppDraft {
            name: "a".into(),
            ..AppDraft::default()
        };
        App::create(draft, id.clone(), Timestamp::from_unix_millis(1)).map(Arc::new)
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        let draft = FuncDraft {
            app_id: "app".into(),
            name: "f".into(),
            image: "x/y:1".into(),
            ..FuncDraft::default()
        };
        Func::create(draft, None, id.clone(), Timestamp::from_unix_millis(1)).map(Arc::new)
    }

    async fn trigger_by_source(
        &self,
        _: &AppId,
        _: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        let draft = TriggerDraft {
            app_id: "app".into(),
            fn_id: "f".into(),
            name: "t".into(),
            kind: "http".into(),
            source: source.into(),
            ..TriggerDraft::default()
        };
        let id = TriggerId::from("t");
        Trigger::create(draft, id, Timestamp::from_unix_millis(1)).map(Arc::new)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn answers_tell_how_long_the_call_waited() {
    let net = Net::default();
    Peer::start(&net, "a:1", |mut exchange| {
        Box::pin(async move {
            let lie = [
                ("Xxx-Fxlb-Wait", "9h"),
                ("Content-Length", "0"),
                ("Fn-Http-H-X", "y"),
            ];
            exchange.start(&lie).await;
            exchange
                .finished(CallFinished {
                    success: true,
                    scheduler_duration: 1_500_000,
                    ..CallFinished::default()
                })
                .await;
            exchange.end("0");
        })
    });
    let balancer = Balancer::new(&net, &["a:1"]);
    let mut metrics = Metrics::new();
    let api = ApiMetrics::new(&mut metrics);
    let parts = FrontDoorParts {
        targets: CachedControlPlane::new(
            Arc::new(Plane(broadcast::channel(1).0)),
            CacheSettings::default(),
        ),
        runner: balancer.placed.clone(),
        ids: Arc::new(IdSource::new(1)),
        random: next_number,
        request_ids: None,
        metrics: Arc::new(FrontDoorMetrics::new(&mut metrics, api)),
        calls: None,
        recorder: None,
        tasks: CallTasks::default(),
        limits: CallLimits::default(),
    };
    let nothing = tower::service_fn(|_: Request<Body>| async { Ok(Response::new(body::empty())) });
    let door = FrontDoor::new(parts, &LbConfig::default(), nothing);
    for (method, path) in [(Method::POST, "/invoke/f"), (Method::GET, "/t/a/s")] {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(body::empty()).expect("a request");
        let answer = door.call(request).await.expect("never fails");
        assert_eq!(answer.status(), 200, "{path}");
        let told: Vec<_> = answer.headers().get_all("xxx-fxlb-wait").iter().collect();
        assert_eq!(told.len(), 1, "{path}");
        let told = told[0].to_str().expect("ASCII");
        assert!(told.starts_with("1.5") && told.ends_with("ms"), "{told}");
    }
}
