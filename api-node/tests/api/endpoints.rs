//! The endpoint annotations (spec/01 1.4, 1.5; spec/A for those of a PUT).

use api_node::rest::ApiSettings;
use http::Method;
use nodekit::http_server::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Answer, Api};

const FN: &str = "fnproject.io/fn/invokeEndpoint";
const TRIGGER: &str = "fnproject.io/trigger/httpEndpoint";

async fn with_settings(settings: ApiSettings) -> Api {
    Api::start_with(settings, Limits::default()).await
}

/// The endpoints of a function and a trigger in every answer that shows them.
async fn endpoints(api: &Api) -> Vec<(Value, Value)> {
    let app = api.app("a").await;
    let func = api
        .post(
            "/v2/fns",
            &json!({"app_id": app, "name": "f", "image": "x"}),
        )
        .await;
    let fn_id = func.id();
    let draft = json!({"app_id": app, "fn_id": fn_id, "name": "t", "type": "http", "source": "/s"});
    let trigger = api.post("/v2/triggers", &draft).await;
    let (fn_path, trigger_path) = (
        format!("/v2/fns/{fn_id}"),
        format!("/v2/triggers/{}", trigger.id()),
    );
    let first = |list: Answer| list.json()["items"][0].clone();
    let patch = json!({"annotations": {"k": 1}});
    let shown = [
        (func.json(), trigger.json()),
        (
            api.get(&fn_path).await.json(),
            api.get(&trigger_path).await.json(),
        ),
        (
            first(api.get(&format!("/v2/fns?app_id={app}")).await),
            first(api.get(&format!("/v2/triggers?app_id={app}")).await),
        ),
        (
            api.put(&fn_path, &patch).await.json(),
            api.put(&trigger_path, &patch).await.json(),
        ),
    ];
    shown
        .into_iter()
        .map(|(func, trigger)| {
            let endpoint = func["annotations"][FN]
                .as_str()
                .expect("an endpoint")
                .replace(&fn_id, "<id>");
            (endpoint.into(), trigger["annotations"][TRIGGER].clone())
        })
        .collect()
}

#[tokio::test]
async fn the_host_of_the_request() {
    let api = Api::start().await;
    let base = format!("http://{}", api.address);
    for (func, trigger) in endpoints(&api).await {
        assert_eq!(func, format!("{base}/invoke/<id>"));
        assert_eq!(trigger, format!("{base}/t/a/s"));
    }
}

#[tokio::test]
async fn the_configured_base_with_and_without_a_slash() {
    for public_url in ["https://lb.example/base", "https://lb.example/base/"] {
        let settings = ApiSettings {
            public_url: Some(public_url.to_owned()),
            ..ApiSettings::default()
        };
        for (func, trigger) in endpoints(&with_settings(settings).await).await {
            assert_eq!(func, "https://lb.example/base/invoke/<id>");
            assert_eq!(trigger, "https://lb.example/base/t/a/s");
        }
    }
}

#[tokio::test]
async fn https_where_the_listener_speaks_tls() {
    let api = with_settings(ApiSettings {
        tls: true,
        ..ApiSettings::default()
    })
    .await;
    let (func, trigger) = endpoints(&api).await.remove(0);
    assert_eq!(func, format!("https://{}/invoke/<id>", api.address));
    assert_eq!(trigger, format!("https://{}/t/a/s", api.address));
}

#[tokio::test]
async fn forwarded_headers_are_not_looked_at() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let headers = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("host", "good.example"),
    ];
    let func = api
        .send(Method::GET, &format!("/v2/fns/{func}"), &headers, "")
        .await
        .json();
    let endpoint = func["annotations"][FN].as_str().expect("an endpoint");
    assert!(
        endpoint.starts_with("http://good.example/invoke/"),
        "{endpoint}"
    );
}

#[tokio::test]
async fn it_is_never_stored() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let draft = json!({
        "app_id": app, "name": "f", "image": "x", "annotations": {FN: "http://stale.example/", "k": 1},
    });
    let id = api.post("/v2/fns", &draft).await.id();
    let path = format!("/v2/fns/{id}");
    let shown = api.get(&path).await.json();
    assert_eq!(
        api.put(&path, &shown).await.json(),
        shown,
        "what was read can be sent back"
    );
    let through = async |host: &str| -> Value {
        api.send(Method::GET, &path, &[("host", host)], "")
            .await
            .json()["annotations"]
            .clone()
    };
    for host in ["one.example", "two.example"] {
        assert_eq!(
            through(host).await,
            json!({FN: format!("http://{host}/invoke/{id}"), "k": 1})
        );
    }
    // Without a host nothing is added, so what is left is what is stored.
    let mut stream = TcpStream::connect(&api.address)
        .await
        .expect("a connection");
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("\"annotations\":{\"k\":1}"), "{answer}");
}

#[tokio::test]
async fn without_a_usable_host_there_is_none() {
    let api = Api::start().await;
    let app = api.app("a").await;
    let func = api.func(&app, "f").await;
    let hosts: [&[u8]; 4] = [
        b"",
        b"Host: <script>\r\n",
        b"Host: a b\r\n",
        b"Host: \xff\r\n",
    ];
    for host in hosts {
        let mut stream = TcpStream::connect(&api.address)
            .await
            .expect("a connection");
        let line = format!("GET /v2/fns/{func} HTTP/1.0\r\n");
        stream
            .write_all(&[line.as_bytes(), host, b"\r\n"].concat())
            .await
            .expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let answer = String::from_utf8(answer).expect("UTF-8");
        let refused = answer.starts_with("HTTP/1.0 400") || answer.starts_with("HTTP/1.1 400");
        assert!(refused || answer.contains(" 200 OK"), "{answer}");
        assert!(
            !answer.contains(FN) && !answer.contains("<script>"),
            "{answer}"
        );
    }
}
