//! Images made of a few files, without a registry, a builder or a base image.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::engine;
use super::error::EngineError;
use super::image::reference::ImageReference;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageBuildError {
    /// The tag is not an image reference.
    #[error("{tag:?}: {reason}")]
    Tag {
        /// The tag.
        tag: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The files cannot be put into an archive.
    #[error("cannot make the archive: {0}")]
    Archive(#[from] io::Error),
    /// The engine cannot be reached, or refuses the image.
    #[error("cannot load the image: {0}")]
    Engine(String),
}

/// An image `FROM scratch`.
#[derive(Debug, Clone, Default)]
pub struct ScratchImage<'a> {
    /// Its name, such as `examples/hello:v1`.
    pub tag: &'a str,
    /// Executable files by their paths in the image.
    pub files: Vec<(&'a str, &'a [u8])>,
    /// What runs in its containers.
    pub entrypoint: Vec<&'a str>,
    /// Environment, `NAME=value`.
    pub env: Vec<&'a str>,
    /// Paths that are declared to be volumes.
    pub volumes: Vec<&'a str>,
}

/// Makes the image `tag` of one static binary, which it runs as `/function`.
///
/// `host` is the engine's address; none is the usual socket.
///
/// # Errors
/// The tag is no image reference, or the engine refuses.
pub async fn build_scratch_image(
    host: Option<&str>,
    tag: &str,
    binary: &[u8],
) -> Result<(), ImageBuildError> {
    let image = ScratchImage {
        tag,
        files: vec![("function", binary)],
        entrypoint: vec!["/function"],
        ..ScratchImage::default()
    };
    load(host, &image).await
}

/// Makes an image and puts it into the engine; an older one of the same tag loses the tag.
///
/// # Errors
/// The tag is no image reference, a file cannot be put into an archive, or the engine refuses.
pub async fn load(host: Option<&str>, image: &ScratchImage<'_>) -> Result<(), ImageBuildError> {
    let archive = Bytes::from(archive(image)?);
    let client = engine::client(host).map_err(engine_error)?;
    let archive = futures_util::stream::iter([Ok::<_, io::Error>(archive)]);
    let options = ImportImageOptions {
        quiet: true,
        ..ImportImageOptions::default()
    };
    let mut answers = client.import_image_stream(options, archive, None);
    while let Some(answer) = answers.next().await {
        answer.map_err(|error| engine_error(error.into()))?;
    }
    Ok(())
}

fn engine_error(error: EngineError) -> ImageBuildError {
    ImageBuildError::Engine(error.to_string())
}

/// The image as `docker save` would write it: the layer, its configuration and the list of both.
/// The same input gives the same image.
pub(super) fn archive(image: &ScratchImage<'_>) -> Result<Vec<u8>, ImageBuildError> {
    let reference = ImageReference::parse(image.tag).map_err(|error| ImageBuildError::Tag {
        tag: image.tag.to_owned(),
        reason: error.to_string(),
    })?;
    let layer = tar_of(&image.files, 0o755)?;
    let volumes: serde_json::Map<_, _> = image
        .volumes
        .iter()
        .map(|path| ((*path).to_owned(), json!({})))
        .collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": image.entrypoint, "Env": image.env, "Volumes": volumes},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(&layer))]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    })
    .to_string();
    let config_name = format!("{:x}.json", Sha256::digest(&config));
    // The engine knows images of its default registry without its name and `library/`.
    let tag = reference.to_string();
    let tag = tag.strip_prefix("library/").unwrap_or(&tag);
    let list =
        json!([{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).to_string();
    let files: [(&str, &[u8]); 3] = [
        ("layer.tar", &layer),
        (&config_name, config.as_bytes()),
        ("manifest.json", list.as_bytes()),
    ];
    Ok(tar_of(&files, 0o644)?)
}

fn tar_of(files: &[(&str, &[u8])], mode: u32) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    // Left out, some engines make them for root alone.
    for directory in directories(files) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_mtime(0);
        archive.append_data(&mut header, directory, io::empty())?;
    }
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        archive.append_data(&mut header, relative(path), *content)?;
    }
    archive.into_inner()
}

fn relative(path: &str) -> &Path {
    Path::new(path.trim_start_matches('/'))
}

/// The directories above the files, each before those below it.
fn directories<'a>(files: &[(&'a str, &[u8])]) -> BTreeSet<&'a Path> {
    let above = |path: &'a str| relative(path).ancestors().skip(1);
    let all = files.iter().flat_map(|(path, _)| above(path));
    all.filter(|directory| !directory.as_os_str().is_empty())
        .collect()
}

/// This machine's processor, as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_gives_the_same_archive() {
        let image = ScratchImage {
            tag: "a/b:v1",
            files: vec![("/bin/x", b"binary")],
            entrypoint: vec!["/bin/x"],
            ..ScratchImage::default()
        };
        let once = archive(&image).expect("an archive");
        assert_eq!(once, archive(&image).expect("an archive"));
        assert!(once.windows(6).any(|bytes| bytes == b"a/b:v1"));
    }

    #[test]
    fn a_bad_tag_is_refused() {
        let image = ScratchImage {
            tag: "A B",
            ..ScratchImage::default()
        };
        assert!(matches!(archive(&image), Err(ImageBuildError::Tag { .. })));
    }
}
