//! A function that misbehaves on demand: in how it starts, in what it listens on, in what it uses,
//! and in every byte that it answers. README.md lists the knobs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it prints and sleeps because it is told to"
)]

mod answer;
mod connection;
mod environment;
mod hunger;
mod knobs;
mod misbehaviour;
mod request;
mod script;
mod socket;

use std::sync::mpsc;

use environment::Environment;

fn main() -> std::process::ExitCode {
    let environment = match Environment::from_vars(std::env::vars()) {
        Ok(environment) => environment,
        Err(error) => {
            eprintln!("test-function: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    if environment.header {
        eprintln!("Container starting");
    }
    std::thread::sleep(environment.init_delay);
    if let Some(code) = environment.init_exit {
        eprintln!("Container exits before it listens, with code {code}");
        std::process::exit(code);
    }

    let (stop, stopped) = mpsc::channel();
    match socket::listen(&environment) {
        Ok(listener) => connection::accept(listener, environment.clone(), stop.clone()),
        Err(error) => {
            eprintln!("test-function: cannot listen: {error}");
            return std::process::ExitCode::FAILURE;
        }
    }
    // `stop` is alive here, so this ends only when a call asks for it.
    let _ = stopped.recv();
    if environment.footer {
        eprintln!("Container ending");
    }
    std::thread::sleep(environment.exit_delay);
    drop(stop);
    std::process::ExitCode::SUCCESS
}
