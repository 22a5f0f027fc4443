//! Calls and their answers (spec/01 1.8, 1.9; spec/11 11.2).

use hearth_tests::{Deployed, Server, functions};
use serde_json::json;

#[tokio::test]
async fn a_function_is_called_again_in_the_same_container() {
    let server = Server::start(&[]).await;
    let hello = Deployed::new(
        &server.client,
        "hello",
        &functions::image("hello"),
        json!({}),
    )
    .await;
    for name in ["first", "second"] {
        let answer = hello.call_json(json!({ "name": name })).await.expect(200);
        assert_eq!(answer.json(), json!({ "message": format!("Hello {name}") }));
        assert_eq!(answer.header("fn-call-id").map(str::len), Some(26));
    }
    assert_eq!(server.containers().len(), 1);
}
