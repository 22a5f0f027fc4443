//! Roles in certificates, over real TLS: every combination of who calls, who is called, and whether
//! roles are required.

use tonic::Code;

use super::test_authority::{Authority, Files};
use super::*;
use crate::grpc_server::test_node::{Log, TestNode, ask, client, patient, peer, within};

const API: &str = "hearth://role/api";
const LB: &str = "hearth://role/lb";
const RUNNER: &str = "hearth://role/runner";

fn load(authority: &Authority, uris: &[&str], roles_required: bool) -> NodeTls {
    let files = Files::new(&authority.good_for(uris), &authority.pem());
    let config = GrpcConfig {
        node_cert_roles_required: roles_required,
        ..files.config()
    };
    NodeTls::load(&config).expect("good files").expect("TLS")
}

/// Status is for load balancers.
#[tokio::test]
async fn a_method_is_for_nodes_of_one_role() {
    let authority = Authority::new("one");
    let rows: [(&[&str], Code, Code); 8] = [
        // The roles of the caller; what it gets, and what where roles are required.
        (&[LB], Code::Ok, Code::Ok),
        (&[RUNNER], Code::PermissionDenied, Code::PermissionDenied),
        (&[API], Code::PermissionDenied, Code::PermissionDenied),
        (
            &[API, RUNNER],
            Code::PermissionDenied,
            Code::PermissionDenied,
        ),
        (&[API, LB, RUNNER], Code::Ok, Code::Ok),
        (
            &["hearth://role/new"],
            Code::PermissionDenied,
            Code::PermissionDenied,
        ),
        (
            &["spiffe://a/role/runner"],
            Code::Ok,
            Code::PermissionDenied,
        ),
        (&[], Code::Ok, Code::PermissionDenied),
    ];
    for (roles, may, may_where_required) in rows {
        for (required, expected) in [(false, may), (true, may_where_required)] {
            let (log, _guard) = Log::capture();
            let server = load(&authority, &[RUNNER], required);
            let node = TestNode::start(patient(), Some(server)).await;
            let peer = node.peer(Some(load(&authority, roles, required)));
            let code = ask(&peer)
                .await
                .map_or_else(|status| status.code(), |_| Code::Ok);
            assert_eq!(code, expected, "{roles:?} {required}");
            if expected == Code::PermissionDenied {
                assert_eq!(node.calls(), 0);
                log.wait_for("/RunnerProtocol/Status is for a node with the role lb")
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn another_method_is_for_others() {
    let authority = Authority::new("one");
    let node = TestNode::start(patient(), Some(load(&authority, &[RUNNER], false))).await;
    for (role, denied) in [(API, false), (LB, true), (RUNNER, true)] {
        let peer = node.peer(Some(load(&authority, &[role], false)));
        let mut client = client(&peer);
        let mut request = tonic::Request::new(Default::default());
        request.set_timeout(Duration::from_millis(200));
        // Whoever is let in gets no answer in time.
        let answer = within(client.configure_runner(request)).await;
        let code = answer.expect_err("no answer").code();
        assert_eq!(code == Code::PermissionDenied, denied, "{role}: {code}");
    }
}

/// The test's node does not list it.
#[tokio::test]
async fn what_is_not_listed_is_not_served() {
    let authority = Authority::new("one");
    for tls in [false, true] {
        let node =
            TestNode::start(patient(), tls.then(|| load(&authority, &[RUNNER], false))).await;
        let peer = node.peer(tls.then(|| load(&authority, &[API, LB, RUNNER], false)));
        let answer = within(client(&peer).status2(prost_types::Struct::default())).await;
        let status = answer.expect_err("not served");
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, ""));
    }
}

/// The test's channels are to runners.
#[tokio::test]
async fn a_server_must_be_of_the_kind_that_is_meant() {
    let authority = Authority::new("one");
    let rows: [(&[&str], bool, bool); 6] = [
        (&[RUNNER], true, true),
        (&[LB], false, false),
        (&[API], false, false),
        (&[API, RUNNER], true, true),
        (&["hearth://role/new"], false, false),
        (&[], true, false),
    ];
    for (roles, may, may_where_required) in rows {
        for (required, expected) in [(false, may), (true, may_where_required)] {
            let (log, _guard) = Log::capture();
            let server = load(&authority, roles, false);
            let node = TestNode::start(patient(), Some(server)).await;
            let caller = load(&authority, &[LB], required);
            let answer = ask(&peer(node.address, Some(caller))).await;
            assert_eq!(answer.is_ok(), expected, "{roles:?} {required}: {answer:?}");
            if !expected {
                assert_eq!(node.calls(), 0);
                log.wait_for("and not for runner").await;
            }
        }
    }
}

#[test]
fn a_node_knows_what_its_own_certificate_is_for() {
    let authority = Authority::new("one");
    for (roles, required, expected) in [
        (&[LB][..], false, "lb"),
        (&[API, RUNNER][..], true, "api, runner"),
        (&[][..], false, "api, lb, runner"),
        (&[][..], true, "no role"),
    ] {
        let tls = load(&authority, roles, required);
        assert_eq!(tls.roles().to_string(), expected);
    }
}

#[test]
fn roles_are_not_required_of_nodes_without_certificates() {
    let config = GrpcConfig {
        node_cert_roles_required: true,
        ..GrpcConfig::default()
    };
    let error = NodeTls::load(&config).expect_err("nowhere to find them");
    assert!(
        error
            .to_string()
            .starts_with("FN_NODE_CERT_ROLES_REQUIRED ")
    );
}
