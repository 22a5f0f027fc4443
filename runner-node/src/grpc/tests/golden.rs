//! The messages of the runner protocol byte by byte (spec/08 8.2). The bytes were written by an
//! encoder of the wire format that knows the field numbers of the specification and no `.proto` file.

use prost::Message;
use proto::runner::{
    ConfigMsg, ConfigStatus, LogRequestMsg, LogResponseMsg, log_request_msg, log_response_msg,
};

use super::*;

/// Every field of the message has a value of its own.
#[track_caller]
fn golden<M: Message + Default + PartialEq>(message: &M, bytes: &str) {
    let encoded: String = message
        .encode_to_vec()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(encoded, bytes);
    let raw: Vec<u8> = (0..bytes.len() / 2)
        .map(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16).expect("digits"))
        .collect();
    assert!(M::decode(raw.as_slice()).expect("decoded") == *message);
}

fn entry() -> std::collections::HashMap<String, String> {
    [("k".to_owned(), "v".to_owned())].into()
}

fn frame() -> DataFrame {
    DataFrame {
        data: Bytes::from_static(b"\x00\xffd"),
        eof: true,
    }
}

fn client(body: client_msg::Body) -> ClientMsg {
    ClientMsg { body: Some(body) }
}

fn runner(body: runner_msg::Body) -> RunnerMsg {
    RunnerMsg { body: Some(body) }
}

#[test]
fn what_a_load_balancer_sends() {
    let call = TryCall {
        models_call_json: r#"{"id":"c"}"#.into(),
        slot_hash_id: "00ff".into(),
        extensions: entry(),
    };
    golden(
        &client(client_msg::Body::Try(call)),
        "0a1a0a0a7b226964223a2263227d1204303066661a060a016b120176",
    );
    golden(
        &client(client_msg::Body::Data(frame())),
        "12070a0300ff641001",
    );
}

#[test]
fn what_a_runner_sends() {
    let header = |key: &str, value: &str| proto::runner::HttpHeader {
        key: key.into(),
        value: value.into(),
    };
    let head = HttpRespMeta {
        status_code: 202,
        headers: vec![header("A", "1"), header("B", "2")],
    };
    let start = CallResultStart {
        meta: Some(call_result_start::Meta::Http(head)),
    };
    golden(
        &runner(runner_msg::Body::ResultStart(start)),
        "0a16a2061308ca0112060a014112013112060a0142120132",
    );
    golden(
        &runner(runner_msg::Body::Data(frame())),
        "12070a0300ff641001",
    );
    let finished = CallFinished {
        success: true,
        details: "call".into(),
        error_code: 502,
        error_str: "bad".into(),
        created_at: "c-at".into(),
        started_at: "s-at".into(),
        completed_at: "d-at".into(),
        scheduler_duration: 300,
        execution_duration: -1,
        error_user: true,
        image: "img".into(),
        image_pull_wait_duration: 12,
        ctr_prep_duration: 13,
        ctr_create_duration: 14,
        init_start_time: 1 << 40,
    };
    golden(
        &runner(runner_msg::Body::Finished(finished)),
        concat!(
            "1a440801120463616c6c18f60322036261642a04632d61743204732d61743a04642d617440ac0248ffffffff",
            "ffffffffff0150015a03696d67600c680d700e78808080808020",
        ),
    );
}

#[test]
fn the_status_of_a_runner() {
    let status = RunnerStatus {
        active: -3,
        failed: true,
        id: "id".into(),
        details: "det".into(),
        error_code: 500,
        error_str: "err".into(),
        created_at: "c".into(),
        started_at: "s".into(),
        completed_at: "d".into(),
        cached: true,
        requests_received: 12,
        requests_handled: u64::MAX,
        kdumps_on_disk: 14,
        scheduler_duration: 15,
        execution_duration: 16,
        is_network_disabled: true,
        custom_status: entry(),
        image_pull_wait_duration: 19,
        ctr_prep_duration: 20,
        ctr_create_duration: 21,
        init_start_time: 22,
    };
    golden(
        &status,
        concat!(
            "10fdffffffffffffffff011801220269642a0364657430f4033a036572724201634a01735201645801600c68",
            "ffffffffffffffffff01700e780f8001108801019201060a016b120176980113a00114a80115b00116",
        ),
    );
}

#[test]
fn configuration_and_logs() {
    golden(&ConfigMsg { config: entry() }, "0a060a016b120176");
    golden(&ConfigStatus {}, "");
    let request = |body| LogRequestMsg { body: Some(body) };
    let start = log_request_msg::Start { config: entry() };
    golden(
        &request(log_request_msg::Body::Start(start)),
        "0a080a060a016b120176",
    );
    let ack = log_request_msg::Ack {};
    golden(&request(log_request_msg::Body::Ack(ack)), "1200");
    let ready = log_request_msg::Ready {};
    golden(&request(log_request_msg::Body::Ready(ready)), "1a00");
    use log_response_msg::container::request::{Line, line::Source};
    use log_response_msg::{Container, container::Request};
    let line = Line {
        timestamp: 1_552_000_000_000,
        source: Source::Stderr.into(),
        data: Bytes::from_static(b"x\n"),
    };
    let request = Request {
        request_id: "rid".into(),
        data: vec![line],
    };
    let container = Container {
        application_id: "app".into(),
        function_id: "fn".into(),
        container_id: "ctr".into(),
        data: vec![request],
    };
    let logs = LogResponseMsg {
        data: vec![container],
    };
    golden(
        &logs,
        "0a240a036170701202666e1a0363747222140a03726964120d0880c0a2d3952d10011a02780a",
    );
}

/// Method names without a package, as both sides of an original cluster know them.
#[tokio::test]
async fn the_methods_have_the_originals_names() {
    let node = Node::new(1).await;
    let mut grpc = tonic::client::Grpc::new(node.channel.clone());
    for method in ["Status", "Status2", "ConfigureRunner"] {
        grpc.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::try_from(format!("/RunnerProtocol/{method}"));
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let answer = grpc.unary(Request::new(()), path.expect("a path"), codec);
        soon(answer).await.expect(method);
    }
    node.end().await;
}
