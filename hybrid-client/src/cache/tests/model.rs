//! Random changes, delays and questions: no answer is older than the TTL after its change, and none
//! crosses an announced change.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use domain::{AppId, ErrorCode, FnId};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::plane::Plane;
use super::{poll_once, sizes};
use crate::cache::{CacheSettings, CachedControlPlane};
use crate::control_plane::{Change, ControlPlane};

/// A step of the model. Functions and triggers are numbered.
#[derive(Debug, Clone)]
enum Step {
    /// Gives the function another image, or deletes it; announced or not.
    ChangeFn {
        func: usize,
        delete: bool,
        announce: bool,
    },
    /// Changes the app's configuration.
    ChangeApp { announce: bool },
    /// Leads the trigger to another function, or deletes it.
    ChangeTrigger { to: Option<usize>, announce: bool },
    /// More announcements than the channel holds.
    Flood,
    /// Milliseconds go by.
    Advance(u64),
    /// Asks and waits for the answer.
    Ask(Question),
    /// Asks, and the control plane's answer stays on its way.
    AskSlowly(Question),
    /// A client that waits goes away.
    Cancel(usize),
    /// All slow answers arrive.
    Deliver,
}

#[derive(Debug, Clone, Copy)]
enum Question {
    Fn(usize),
    Trigger,
}

const FNS: usize = 2;

fn question() -> impl Strategy<Value = Question> {
    prop_oneof![(0..FNS).prop_map(Question::Fn), Just(Question::Trigger)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..FNS, any::<bool>(), any::<bool>())
            .prop_map(|(func, delete, announce)| Step::ChangeFn { func, delete, announce }),
        1 => any::<bool>().prop_map(|announce| Step::ChangeApp { announce }),
        1 => (proptest::option::of(0..FNS), any::<bool>())
            .prop_map(|(to, announce)| Step::ChangeTrigger { to, announce }),
        1 => Just(Step::Flood),
        2 => (1..6000u64).prop_map(Step::Advance),
        5 => question().prop_map(Step::Ask),
        3 => question().prop_map(Step::AskSlowly),
        1 => (0..4usize).prop_map(Step::Cancel),
        2 => Just(Step::Deliver),
    ]
}

/// One thing that answers are made of, over time.
#[derive(Debug)]
struct History<T> {
    /// Each value, with the moment and the step since which it is true.
    values: Vec<(Duration, usize, T)>,
    /// The last step at which a change of it was announced.
    announced: usize,
}

impl<T: PartialEq> History<T> {
    fn new(value: T) -> Self {
        Self {
            values: vec![(Duration::ZERO, 0, value)],
            announced: 0,
        }
    }

    fn set(&mut self, model: &Clock, value: T, announce: bool) {
        self.values.push((model.now(), model.step, value));
        if announce {
            self.announced = model.step;
        }
    }

    /// Whether one who asked in `ask` may get `value`: it was true within the TTL, and no
    /// announcement before the question ended it.
    fn allows(&self, ask: &Ask, value: &T) -> bool {
        let announced = if self.announced <= ask.step {
            self.announced
        } else {
            0
        };
        self.values
            .iter()
            .enumerate()
            .any(|(at, (_, _, candidate))| {
                candidate == value
                    && self.values.get(at + 1).is_none_or(|(when, step, _)| {
                        *when + CacheSettings::default().ttl > ask.at && (*step > announced)
                    })
            })
    }

    /// Whether an error for which `value` is the reason may be given: errors are not kept, but those
    /// who ask while a load is under way share what it brings.
    fn explains(&self, ask: &Ask, value: &T) -> bool {
        if !ask.alone {
            return self.allows(ask, value);
        }
        self.values
            .iter()
            .enumerate()
            .any(|(at, (_, _, candidate))| {
                candidate == value
                    && self
                        .values
                        .get(at + 1)
                        .is_none_or(|(_, step, _)| *step > ask.step)
            })
    }
}

struct Clock {
    began: Instant,
    step: usize,
}

impl Clock {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// What is true, and was.
struct Model {
    clock: Clock,
    /// The images, or that the function does not exist.
    fns: [History<Option<String>>; FNS],
    app: History<String>,
    /// Where the trigger leads.
    trigger: History<Option<usize>>,
}

/// The function, its image and the app's value, or the error.
type Answer = Result<(usize, String, String), ErrorCode>;

/// A question and when it was asked. Announcements of the same step come before it.
struct Ask {
    question: Question,
    at: Duration,
    step: usize,
    /// No load was under way.
    alone: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            clock: Clock {
                began: Instant::now(),
                step: 0,
            },
            fns: std::array::from_fn(|_| History::new(Some("img:0".to_owned()))),
            app: History::new("1".to_owned()),
            trigger: History::new(Some(0)),
        }
    }

    fn check(&self, ask: &Ask, answer: &Answer) {
        let allowed = match (answer, ask.question) {
            (Ok((func, image, value)), question) => {
                let leads_here = match question {
                    Question::Fn(asked) => asked == *func,
                    Question::Trigger => self.trigger.allows(ask, &Some(*func)),
                };
                leads_here
                    && self.fns[*func].allows(ask, &Some(image.clone()))
                    && self.app.allows(ask, value)
            }
            (Err(ErrorCode::FnNotFound), Question::Fn(func)) => self.fns[func].explains(ask, &None),
            (Err(ErrorCode::FnNotFound), Question::Trigger) => (0..FNS).any(|func| {
                self.trigger.explains(ask, &Some(func)) && self.fns[func].explains(ask, &None)
            }),
            (Err(ErrorCode::TriggerNotFound), Question::Trigger) => {
                self.trigger.explains(ask, &None)
            }
            (Err(_), _) => false,
        };
        assert!(
            allowed,
            "{:?} asked in step {}: {answer:?}",
            ask.question, ask.step
        );
    }
}

async fn ask(cache: &CachedControlPlane, question: Question) -> Answer {
    let target = match question {
        Question::Fn(func) => cache.target_by_fn(&format!("f{func}")).await,
        Question::Trigger => cache.target_by_trigger("a", "/s").await,
    };
    let target = target.map_err(|error| error.code())?;
    let spec = &target.spec;
    let func = (0..FNS).find(|func| spec.fn_id.as_str() == format!("f{func}"));
    Ok((
        func.expect("a function of the model"),
        spec.image.clone(),
        spec.env["V"].clone(),
    ))
}

async fn play(steps: Vec<Step>) {
    let plane = Plane::filled();
    for func in 0..FNS {
        plane.put_fn(&format!("f{func}"), "app", "img:0");
    }
    plane.put_trigger("app", "/s", "f0");
    let settings = CacheSettings {
        load_timeout: Duration::from_secs(3600),
        ..CacheSettings::default()
    };
    let cache = CachedControlPlane::new(Arc::clone(&plane) as Arc<dyn ControlPlane>, settings);
    let mut model = Model::new();
    let mut slow = Vec::new();
    for step in steps {
        model.clock.step += 1;
        let version = model.clock.step.to_string();
        match step.clone() {
            Step::ChangeFn {
                func,
                delete,
                announce,
            } => {
                let id = format!("f{func}");
                let image = (!delete).then(|| format!("img:{version}"));
                match &image {
                    Some(image) => plane.put_fn(&id, "app", image),
                    None => drop(plane.data.lock().unwrap().fns.remove(&id)),
                }
                model.fns[func].set(&model.clock, image, announce);
                if announce {
                    plane.announce(Change::Fn(FnId::from(id)));
                }
            }
            Step::ChangeApp { announce } => {
                plane.put_app("a", "app", &version);
                model.app.set(&model.clock, version, announce);
                if announce {
                    plane.announce(Change::App(AppId::from("app")));
                }
            }
            Step::ChangeTrigger { to, announce } => {
                match to {
                    Some(func) => plane.put_trigger("app", "/s", &format!("f{func}")),
                    None => plane.data.lock().unwrap().triggers.clear(),
                }
                model.trigger.set(&model.clock, to, announce);
                if announce {
                    plane.announce(Change::Triggers(AppId::from("app")));
                }
            }
            Step::Flood => {
                for _ in 0..20 {
                    plane.announce(Change::Fn(FnId::from("unrelated")));
                }
                let step = model.clock.step;
                for history in &mut model.fns {
                    history.announced = step;
                }
                model.app.announced = step;
                model.trigger.announced = step;
            }
            Step::Advance(millis) => advance(Duration::from_millis(millis)).await,
            Step::Ask(question) | Step::AskSlowly(question) => {
                if matches!(step, Step::AskSlowly(_)) {
                    plane.close_gate();
                }
                let asked = Ask {
                    question,
                    at: model.clock.now(),
                    step: model.clock.step,
                    alone: slow.is_empty(),
                };
                let mut lookup = Box::pin(ask(&cache, question));
                match poll_once(&mut lookup).await {
                    Poll::Ready(answer) => model.check(&asked, &answer),
                    Poll::Pending => slow.push((asked, lookup)),
                }
            }
            Step::Cancel(at) => {
                if at < slow.len() {
                    drop(slow.remove(at));
                }
            }
            Step::Deliver => {
                plane.open_gate();
                for (asked, lookup) in slow.drain(..) {
                    model.check(&asked, &lookup.await);
                }
            }
        }
    }
    drop(slow);
    assert_eq!(sizes(&cache).1, 0, "no load is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing older than the TTL after its change, nothing across an announced change.
    #[test]
    fn the_cache_agrees_with_a_model(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps));
    }
}
