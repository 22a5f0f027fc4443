//! Functions to call: images of the examples and of the test function, deployed on a server.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Mutex;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::{Answer, Client, binary};

/// The image of an example or of the test function, built from the sources that are there now.
///
/// # Panics
/// When it cannot be built.
pub fn image(name: &str) -> String {
    static BUILT: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);
    // Held while building, so that each image is built once.
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(image) = built.get(name) {
        return image.clone();
    }
    let image = format!("hearth-test/{name}:1");
    let output = Command::new(binary::hearth())
        .args(["image", &image])
        .arg(binary::function(name))
        .output()
        .expect("hearth runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    built.insert(name.to_owned(), image.clone());
    image
}

/// A function on a server.
#[derive(Clone)]
pub struct Deployed {
    client: Client,
    /// The app's id.
    pub app_id: String,
    /// The function's id.
    pub fn_id: String,
    /// The path to call it.
    pub path: String,
}

impl Deployed {
    /// The same function, called through another front door.
    pub fn through(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            ..self.clone()
        }
    }

    /// Deploys an image as a function of an app of its own; `settings` are further fields of the
    /// function.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn new(client: &Client, name: &str, image: &str, settings: Value) -> Self {
        let app = client
            .post("/v2/apps", json!({ "name": name }).to_string())
            .await
            .expect(200)
            .json();
        Self::in_app(client, &app, name, image, settings).await
    }

    /// Deploys an image as a function of `app`.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn in_app(
        client: &Client,
        app: &Value,
        name: &str,
        image: &str,
        settings: Value,
    ) -> Self {
        let mut draft = json!({ "app_id": app["id"], "name": name, "image": image });
        for (field, value) in settings.as_object().expect("settings are an object") {
            draft[field] = value.clone();
        }
        let func = client
            .post("/v2/fns", draft.to_string())
            .await
            .expect(200)
            .json();
        let text = |value: &Value| value.as_str().expect("ids are text").to_owned();
        let fn_id = text(&func["id"]);
        Self {
            client: client.clone(),
            app_id: text(&app["id"]),
            path: format!("/invoke/{fn_id}"),
            fn_id,
        }
    }

    /// Deploys the test function under this name, for calls that misbehave.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn test_function(client: &Client, name: &str, settings: Value) -> Self {
        let mut with_memory = json!({ "memory": 64 });
        for (field, value) in settings.as_object().expect("settings are an object") {
            with_memory[field] = value.clone();
        }
        Self::new(client, name, &image("test-function"), with_memory).await
    }

    /// Calls it with headers.
    ///
    /// # Panics
    /// Without a whole answer, or when these are no headers.
    pub async fn call_with(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::post(&self.path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client
            .send(request.body(body.into()).expect("a valid request"))
            .await
    }

    /// Calls it.
    pub async fn call(&self, body: impl Into<Bytes>) -> Answer {
        self.client.post(&self.path, body).await
    }

    /// Calls it with JSON.
    pub async fn call_json(&self, body: Value) -> Answer {
        self.call(body.to_string()).await
    }

    /// Gives it an HTTP trigger, and answers with its path.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn trigger(&self, app_name: &str, source: &str) -> String {
        let name = source.replace('/', "-");
        let draft = json!({ "app_id": self.app_id, "fn_id": self.fn_id, "name": name, "type": "http", "source": source });
        self.client
            .post("/v2/triggers", draft.to_string())
            .await
            .expect(200);
        format!("/t/{app_name}{source}")
    }
}
