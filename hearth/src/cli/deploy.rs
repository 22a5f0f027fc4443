//! `hearth deploy`: app, function and trigger in one step, created or brought up to date.

use domain::{App, AppDraft, Func, FuncDraft, FuncPatch, Trigger, TriggerDraft, TriggerPatch};

use super::client::Client;
use super::query;

/// What to deploy.
#[derive(clap::Args)]
pub(crate) struct Deploy {
    /// The app; made when it does not exist.
    #[arg(long)]
    app: String,
    /// The function; made when it does not exist, updated when it does.
    #[arg(long = "fn")]
    function: String,
    /// The container image.
    #[arg(long)]
    image: String,
    /// Memory limit in MiB.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    memory: u64,
    /// The longest call in seconds.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    timeout: i64,
    /// How long an idle container is kept, in seconds.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    idle_timeout: i64,
    /// A path under /t/APP that calls the function.
    #[arg(long)]
    trigger: Option<String>,
    /// NAME=VALUE for the function's environment; may be given several times.
    #[arg(long = "config", value_parser = pair)]
    config: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Deploys, and answers with what there is now.
pub(crate) async fn run(client: &Client, deploy: Deploy) -> anyhow::Result<String> {
    let app = app(client, &deploy.app).await?;
    let func = function(client, &app, &deploy).await?;
    let (name, id) = (&func.name, &func.id);
    let mut told = format!("{}/{name} ({id}) runs {}", app.name, func.image);
    if let Some(source) = &deploy.trigger {
        let trigger = trigger(client, &app, &func, source).await?;
        told.push_str(&format!(", at /t/{}{}", app.name, trigger.source));
    }
    Ok(told)
}

async fn app(client: &Client, name: &str) -> anyhow::Result<App> {
    if let Some(app) = client
        .find(&format!("/v2/apps?name={}", query(name)))
        .await?
    {
        return Ok(app);
    }
    client
        .create(
            "/v2/apps",
            &AppDraft {
                name: name.to_owned(),
                ..AppDraft::default()
            },
        )
        .await
}

async fn function(client: &Client, app: &App, deploy: &Deploy) -> anyhow::Result<Func> {
    let path = format!("/v2/fns?app_id={}&name={}", app.id, query(&deploy.function));
    let config = deploy.config.iter().cloned().collect();
    let Some(func) = client.find::<Func>(&path).await? else {
        let draft = FuncDraft {
            app_id: app.id.to_string(),
            name: deploy.function.clone(),
            image: deploy.image.clone(),
            memory: deploy.memory,
            timeout: deploy.timeout,
            idle_timeout: deploy.idle_timeout,
            config,
            ..FuncDraft::default()
        };
        return client.create("/v2/fns", &draft).await;
    };
    let patch = FuncPatch {
        image: deploy.image.clone(),
        memory: deploy.memory,
        timeout: deploy.timeout,
        idle_timeout: deploy.idle_timeout,
        config,
        ..FuncPatch::default()
    };
    client.update(&format!("/v2/fns/{}", func.id), &patch).await
}

async fn trigger(client: &Client, app: &App, func: &Func, source: &str) -> anyhow::Result<Trigger> {
    let name = &func.name;
    let path = format!(
        "/v2/triggers?app_id={}&fn_id={}&name={}",
        app.id,
        func.id,
        query(name)
    );
    if let Some(trigger) = client.find::<Trigger>(&path).await? {
        let patch = TriggerPatch {
            source: source.to_owned(),
            ..TriggerPatch::default()
        };
        return client
            .update(&format!("/v2/triggers/{}", trigger.id), &patch)
            .await;
    }
    let draft = TriggerDraft {
        name: name.clone(),
        app_id: app.id.to_string(),
        fn_id: func.id.to_string(),
        kind: "http".to_owned(),
        source: source.to_owned(),
        ..TriggerDraft::default()
    };
    client.create("/v2/triggers", &draft).await
}
