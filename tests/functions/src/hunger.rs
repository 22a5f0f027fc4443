//! Uses up what a container has: memory, files, threads, time.

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::knobs::{Knobs, Tell};

/// Most of a file that is shown.
const READ_LIMIT: u64 = 64 << 10;

/// How long a connection to somewhere may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// What the last call allocated, until the next one, and what was leaked for ever.
static HELD: Mutex<[Vec<Vec<u8>>; 2]> = Mutex::new([Vec::new(), Vec::new()]);

/// Does what the knobs ask for, and tells how it went.
pub(crate) fn feed(knobs: &Knobs) -> BTreeMap<String, String> {
    let mut data = BTreeMap::new();
    let mut tell = |name: String, result: io::Result<String>| match result {
        Ok(output) => data.insert(format!("{name}_output"), output),
        Err(error) => data.insert(format!("{name}_error"), error.to_string()),
    };

    allocate(knobs);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(knobs.busy_time) {
        std::hint::spin_loop();
    }
    if !knobs.create_file.is_empty() {
        let created = create(&knobs.create_file, knobs.create_file_size);
        tell(format!("{}.create", knobs.create_file), created);
    }
    if !knobs.read_file.is_empty() {
        tell(format!("{}.read", knobs.read_file), read(&knobs.read_file));
    }
    if !knobs.list_directory.is_empty() {
        tell(
            format!("{}.list", knobs.list_directory),
            list(&knobs.list_directory),
        );
    }
    if !knobs.connect.is_empty() {
        tell(
            format!("{}.connect", knobs.connect),
            connect(&knobs.connect),
        );
    }
    if knobs.open_files > 0 {
        let opened = (0..knobs.open_files).map_while(|_| File::open("/proc/self/exe").ok());
        let opened: Vec<File> = opened.collect();
        tell("openFiles".to_owned(), Ok(opened.len().to_string()));
    }
    if knobs.spawn_threads > 0 {
        tell(
            "spawnThreads".to_owned(),
            Ok(threads(knobs.spawn_threads).to_string()),
        );
    }
    data
}

fn allocate(knobs: &Knobs) {
    // Written to, because memory that is only reserved counts for nothing.
    let filled = |size: usize| black_box(vec![1_u8; size]);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if knobs.allocate_until_killed {
        loop {
            held[1].push(filled(1 << 20));
        }
    }
    held[0].clear();
    if knobs.allocate_memory > 0 {
        held[0].push(filled(knobs.allocate_memory));
    }
    if knobs.leak_memory > 0 {
        held[1].push(filled(knobs.leak_memory));
    }
}

fn create(path: &str, size: u64) -> io::Result<String> {
    let mut file = File::create(path)?;
    let written = io::copy(&mut io::repeat(0).take(size), &mut file)?;
    file.flush()?;
    Ok(written.to_string())
}

fn read(path: &str) -> io::Result<String> {
    let mut content = Vec::new();
    File::open(path)?
        .take(READ_LIMIT)
        .read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn list(path: &str) -> io::Result<String> {
    let name = |entry: io::Result<std::fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = std::fs::read_dir(path)?
        .map(name)
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names.join("\n"))
}

fn connect(address: &str) -> io::Result<String> {
    connection(address)?;
    Ok("connected".to_owned())
}

fn connection(address: &str) -> io::Result<TcpStream> {
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, CONNECT_LIMIT)
}

/// Tells a line, and waits until it was noted: until the listener closes the connection.
pub(crate) fn tell(tell: &Tell) -> io::Result<()> {
    let mut stream = connection(&tell.to)?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    writeln!(stream, "{}", tell.text)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// How many threads could be had at once, of those wanted.
fn threads(wanted: usize) -> usize {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    std::thread::scope(|scope| {
        let wait = || {
            // Ends with an error, when all have been counted.
            let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
        };
        let spawn = |_| {
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, wait)
                .ok()
        };
        let got = (0..wanted).map_while(spawn).count();
        drop(release);
        got
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_before_anything_goes_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let told = Tell {
            to: listener.local_addr().unwrap().to_string(),
            text: "7".to_owned(),
        };
        let teller = std::thread::spawn(move || (tell(&told), told));
        let mut line = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"7\n");
        let (result, told) = teller.join().unwrap();
        result.unwrap();
        drop(listener);
        tell(&told).unwrap_err();
    }

    #[test]
    fn files_and_threads_are_told_about() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f").display().to_string();
        let knobs = Knobs {
            create_file: file.clone(),
            create_file_size: 3,
            read_file: file.clone(),
            list_directory: directory.path().display().to_string(),
            open_files: 5,
            spawn_threads: 5,
            connect: "127.0.0.1:0".to_owned(),
            allocate_memory: 1000,
            ..Knobs::default()
        };
        let data = feed(&knobs);
        assert_eq!(data[&format!("{file}.create_output")], "3");
        assert_eq!(data[&format!("{file}.read_output")], "\0\0\0");
        assert_eq!(data[&format!("{}.list_output", knobs.list_directory)], "f");
        assert_eq!(
            (
                data["openFiles_output"].as_str(),
                data["spawnThreads_output"].as_str()
            ),
            ("5", "5")
        );
        assert!(data.contains_key("127.0.0.1:0.connect_error"));
        let missing = Knobs {
            read_file: "/no/such".to_owned(),
            ..Knobs::default()
        };
        assert!(feed(&missing).contains_key("/no/such.read_error"));
    }
}
