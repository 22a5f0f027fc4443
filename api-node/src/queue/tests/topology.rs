//! What is at the broker: dead letters, a queue that somebody deletes or has made otherwise, logs and
//! encryption.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use nodekit::metrics::Metrics;
use tokio::task::spawn_blocking;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::super::{OpenError, OpenOptions, QueueMetrics, open};
use super::rabbitmq::{Broker, Certificate};
use super::{Fixture, doorbell, eat, take, until, within};

/// A connection past the queue.
async fn raw(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_doorbell_goes_to_the_dead_letters() {
    let f = Fixture::amqp().await;
    let (_connection, channel) = raw(&f.url).await;
    let bodies: [&[u8]; 3] = [b"", b"{\"v\":1}", b"\xff\x00 neither"];
    for body in bodies {
        channel
            .basic_publish(
                "".into(),
                f.name.as_str().into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default(),
            )
            .await
            .expect("sent");
    }
    let mut consumer = f.consumer(1).await;
    f.publish([1]).await;
    assert_eq!(eat(&mut consumer).await, 1);
    until("the dead letters", || f.metrics.count_dead() == 3).await;
    assert_eq!(f.metrics.count_malformed(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_too_often_goes_to_the_dead_letters() {
    let f = Fixture::amqp().await;
    let mut consumer = f.consumer(1).await;
    f.publish([1]).await;
    for _ in 0..=super::super::amqp::DELIVERY_LIMIT {
        take(&mut consumer).await.receipt.release();
    }
    f.publish([2]).await;
    assert_eq!(eat(&mut consumer).await, 2);
    until("the dead letter", || f.metrics.count_dead() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_declared_again() {
    let f = Fixture::amqp().await;
    let mut consumer = f.consumer(1).await;
    f.publish([1]).await;
    assert_eq!(eat(&mut consumer).await, 1);
    // Without consumers nobody else notices.
    drop(consumer);
    let (_connection, channel) = raw(&f.url).await;
    channel
        .queue_delete(f.name.as_str().into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    let batch: Vec<_> = (2..10).map(doorbell).collect();
    let confirmed = within("an answer", f.queue.publish(&batch)).await;
    assert_eq!(confirmed, vec![false; 8]);
    assert_eq!(f.metrics.count_returned(), 8);
    until("the queue is up", || f.queue.is_up()).await;
    f.publish([10]).await;
    let mut consumer = f.consumer(1).await;
    assert_eq!(eat(&mut consumer).await, 10);
    // A consumer declares it, too.
    channel
        .queue_delete(f.name.as_str().into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    within("a confirm", async {
        while f.queue.publish(&[doorbell(11)]).await != [true] {}
    })
    .await;
    assert_eq!(eat(&mut consumer).await, 11);
}

/// What is logged while the guard lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("unbroken")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unbroken").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(name: &str) -> OpenOptions {
    OpenOptions {
        queue: name.to_owned(),
        authority: None,
        metrics: QueueMetrics::new(&mut Metrics::new()),
    }
}

#[tokio::test]
async fn a_queue_that_was_made_otherwise_is_named_in_the_log() {
    let broker = spawn_blocking(Broker::shared).await.expect("a broker");
    let (_connection, channel) = raw(&broker.url()).await;
    let classic = QueueDeclareOptions::durable();
    channel
        .queue_declare("made-otherwise".into(), classic, FieldTable::default())
        .await
        .expect("declared");
    let (log, _guard) = Log::listen(Level::INFO);
    let queue = open(&broker.url(), options("made-otherwise")).expect("a URL");
    until("the complaint", || {
        let text = log.text();
        text.contains("cannot declare the queue 'made-otherwise'") && text.contains("inequivalent")
    })
    .await;
    assert!(!queue.is_up());
    channel
        .queue_delete("made-otherwise".into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    until("the queue is up", || queue.is_up()).await;
    queue.close().await;
    let complaints = log.text().matches("cannot declare").count();
    assert_eq!(complaints, 1, "a trouble is told once");
}

#[tokio::test]
async fn a_password_does_not_reach_the_log() {
    let broker = spawn_blocking(Broker::shared).await.expect("a broker");
    let (log, _guard) = Log::listen(Level::INFO);
    let url = broker.url().replace("guest:guest", "guest:hunter2");
    let queue = open(&url, options("secret")).expect("a URL");
    until("the complaint", || log.text().contains("ACCESS_REFUSED")).await;
    assert!(!queue.is_up());
    queue.close().await;
    assert!(!log.text().contains("hunter2"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_reached_with_encryption() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("a name");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = authority.self_signed(&key).expect("an authority");
    let issuer = rcgen::Issuer::new(authority, key);
    let own_key = rcgen::KeyPair::generate().expect("a key");
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let own = own.signed_by(&own_key, &issuer).expect("a certificate");
    let certificate = Certificate {
        cert: own.pem(),
        key: own_key.serialize_pem(),
    };
    let broker = spawn_blocking(move || Broker::start_with_tls(&certificate));
    let broker = broker.await.expect("a broker");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("authority.pem");
    std::fs::write(&path, cert.pem()).expect("a file");

    let stranger = open(&broker.tls_url(), options("tls")).expect("a URL");
    let trusting = OpenOptions {
        authority: Some(path.clone()),
        ..options("tls")
    };
    let queue = open(&broker.tls_url(), trusting).expect("a URL");
    until("the queue is up", || queue.is_up()).await;
    assert_eq!(queue.publish(&[doorbell(1)]).await, [true]);
    let mut consumer = super::consumer(&queue, 1).await;
    assert_eq!(eat(&mut consumer).await, 1);
    assert!(!stranger.is_up(), "an authority is needed");

    std::fs::remove_file(&path).expect("it was there");
    let missing = OpenOptions {
        authority: Some(path),
        ..options("tls")
    };
    let error = open(&broker.tls_url(), missing).err().expect("refused");
    assert!(matches!(error, OpenError::Authority { .. }));
    spawn_blocking(move || drop(broker)).await.expect("ended");
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name() {
    let refused = |url: &str, name: &str| {
        let error = open(url, options(name)).err().expect("refused");
        error.to_string()
    };
    assert!(refused("redis://u:hunter2@h", "q").contains("'redis'"));
    assert!(!refused("redis://u:hunter2@h", "q").contains("hunter2"));
    assert!(refused("amqp://h", "").contains("FN_MQ_QUEUE"));
    assert!(refused("amqp://h", &"q".repeat(201)).contains("FN_MQ_QUEUE"));
    assert!(open("", options("")).is_ok());
}
