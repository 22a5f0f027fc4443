//! Generates the messages and services from the `.proto` files, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "runner.proto",
            "runner_extension.proto",
            "hybrid.proto",
            "calls.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        // Bodies are handed on as they came, not copied.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
