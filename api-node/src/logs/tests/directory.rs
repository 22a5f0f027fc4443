//! What a directory of logs has to stand.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Fixture, append, call_made_at, chunk, new_call, read};

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn root(fixture: &Fixture) -> PathBuf {
    PathBuf::from(fixture.url.strip_prefix("file://").expect("a file URL"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_its_end_with_the_machine_is_missing() {
    let fixture = Fixture::directory().await;
    let id = new_call();
    append(&fixture.logs, vec![chunk(&id, 1, 0, "lost")]).await;
    append(&fixture.logs, vec![chunk(&id, 1, 4, "kept")]).await;
    let mut found = files(&root(&fixture));
    found.sort();
    File::create(&found[0]).expect("the file is cut");
    assert_eq!(
        read(&fixture.logs, &id).await.as_deref(),
        Some("\n-----4 bytes of the log are missing-----\nkept")
    );
    File::create(&found[1]).expect("the file is cut");
    assert_eq!(
        read(&fixture.logs, &id).await.as_deref(),
        Some("\n-----8 bytes of the log are missing-----\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_of_logs_that_were_deleted() {
    let fixture = Fixture::directory().await;
    let (id, old) = (new_call(), call_made_at(0));
    append(
        &fixture.logs,
        vec![chunk(&id, 1, 0, "x"), chunk(&old, 1, 0, "x")],
    )
    .await;
    fixture.logs.delete(&[id]).await.expect("deleted");
    fixture.logs.prune(1 << 30, 10).await.expect("pruned");
    let left = fs::read_dir(root(&fixture)).expect("the directory itself");
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_others_are_left_alone() {
    let fixture = Fixture::directory().await;
    let id = new_call();
    append(&fixture.logs, vec![chunk(&id, 1, 0, "mine")]).await;
    let part = files(&root(&fixture)).remove(0);
    fs::write(part.with_file_name("notes.txt"), "not a part").expect("a file");
    fs::write(root(&fixture).join("l/notes.txt"), "not a log").expect("a file");
    assert_eq!(read(&fixture.logs, &id).await.as_deref(), Some("mine"));
    assert_eq!(fixture.logs.prune(0, 10).await.expect("pruned"), 0);
    assert_eq!(files(&root(&fixture)).len(), 3);
}
