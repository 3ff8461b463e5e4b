//! The ways in which a Redis is set up: behind TLS and a password, in a cluster or behind a sentinel whose servers take
//! each other's place.
//!
//! Real servers. What they count is what `limit_store` asks of one that is alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    dead_code,
    reason = "servers and stores can do more than these tests need"
)]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;
#[path = "limit_store/stores.rs"]
mod stores;

use filters::units::Tokens;
use gateway::store::Store;
use gateway::store::redis::{Clock, Endpoint};
use load_tests::simulator::Simulator;
use server::{Cluster, Place, Server, Watched};
use stores::{BRIEF, PATIENT, begin, both, connect, request, settled, until_down, up, used, wall};
use support::certificates::Authority;
use support::gateway::Gateway;
use support::http;

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_right_authority_is_believed_and_only_the_right_password_let_in() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let identity = ours.issue(&["localhost"]);
    let server = Server::guarded(&identity.certificate, &identity.key, &ours.certificate);
    let endpoint = |user: &str, authority: Option<&Authority>| Endpoint {
        url: format!("rediss://{user}@{}", server.authority()),
        ca_pem: authority.map(|authority| std::fs::read(&authority.certificate).unwrap()),
    };
    let right = "tollgate:let-me-in";
    let wrong = [
        endpoint(right, Some(&theirs)),
        endpoint(right, None),
        endpoint("tollgate:let-them-in", Some(&ours)),
        endpoint("default:let-me-in", Some(&ours)),
    ];
    let wrong = wrong.map(|endpoint| begin(endpoint, PATIENT, Clock::Server));
    let redis = begin(endpoint(right, Some(&ours)), PATIENT, Clock::Server);
    up(&redis).await;
    let store = Store::Redis(redis.clone());
    let limits = [request("guarded", both(100), 40)];
    let held = store.reserve(&limits, wall()).await.unwrap();
    held.settle(Tokens::new(70), wall());
    settled(&redis).await;
    assert_eq!(used(&server, "guarded"), 70);
    assert!(store.reserve(&limits, wall()).await.is_err());
    // They began before, and were never let in.
    for redis in &wrong {
        assert!(!redis.health().is_up());
    }
}

/// As it stands in a file, with the password in the environment or not: nothing shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_counts_in_a_redis_behind_tls_and_never_shows_its_password() {
    let simulator = Simulator::start_default().await.unwrap();
    let ours = Authority::new("ours");
    let identity = ours.issue(&["localhost"]);
    let server = Server::guarded(&identity.certificate, &identity.key, &ours.certificate);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    let url = format!("rediss://tollgate:let-me-in@{}", server.authority());
    std::fs::write(&secret, format!("{url}\n")).unwrap();
    let config = format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[redis]
url = {{ file = "{}" }}
ca = "{}"
timeout = "2s"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.team-a]
keys = ["key-a"]
[backends.one]
url = "{}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "one" }}]
[[token-limit]]
name = "guarded"
counter-key = '"key"'
token-quota = 1000
token-quota-period = "yearly"
remaining-quota-tokens-header-name = "x-left"
"#,
        secret.display(),
        ours.certificate.display(),
        simulator.url()
    );
    let gateway = Gateway::start(&config);
    gateway.wait_for_metric("tollgate_redis_up", &[], 1.0);
    let call = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let chat = format!("{}/v1/chat/completions", gateway.url);
    let answer = http::post(&chat, &[("api-key", "key-a")], call);
    let spent = simulator.bill().total_tokens;
    assert_eq!(
        answer.header("x-left"),
        Some((1000 - spent).to_string().as_str())
    );
    support::wait_until("Redis was told", || {
        (used(&server, "guarded") == spent).then_some(())
    });
    let status = http::get(&format!("{}/status", gateway.admin_url));
    for shown in [gateway.log(), gateway.metrics(), status.text()] {
        assert!(!shown.contains("let-me-in"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_s_node_that_dies_is_replaced_and_nothing_counted_is_lost() {
    taken_over(&mut Cluster::replicated()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_sentinel_that_dies_is_replaced_and_nothing_counted_is_lost() {
    taken_over(&mut Watched::start()).await;
}

async fn taken_over(place: &mut impl Place) {
    let redis = connect(place, BRIEF, Clock::Server).await;
    let store = Store::Redis(redis.clone());
    let limits = [request("kept", both(1_000), 10)];
    let before = store.reserve(&limits, wall()).await.unwrap();
    let open = store.reserve(&limits, wall()).await.unwrap();
    before.settle(Tokens::new(100), wall());
    settled(&redis).await;
    let holder = place.holder();
    assert_eq!(used(holder, "kept"), 110);
    holder.replicate();
    holder.kill();
    assert_eq!(until_down(&redis, &store, &limits).await, Some(0));
    // This replica's share, begun from what was known.
    let during = store.reserve(&limits, wall()).await.unwrap();
    during.settle(Tokens::new(7), wall());
    up(&redis).await;
    open.settle(Tokens::new(20), wall());
    settled(&redis).await;
    let left = store
        .reserve(&limits, wall())
        .await
        .unwrap()
        .remaining(wall());
    assert_eq!(left[0].quota, Some(Tokens::new(1_000 - 100 - 20 - 7 - 10)));
}
