//! A future that tests drive by hand, without a runtime: it is polled only when the test says so,
//! and tells whether it was woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) struct ManualTask<F> {
    future: Pin<Box<F>>,
    woken: Arc<Flag>,
}

impl<F: Future> ManualTask<F> {
    /// Not polled yet, which counts as woken.
    pub(crate) fn new(future: F) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        Self {
            future: Box::pin(future),
            woken,
        }
    }

    /// Whether an executor would poll it.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    /// The result, once there is one.
    pub(crate) fn poll(&mut self) -> Option<F::Output> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(self.woken.clone());
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    pub(crate) fn get(&self) -> &F {
        &self.future
    }
}
