//! `terrace install`: what a build has left, put where programs and compilers look for it.

use crate::failure::Failure;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HEADER: &str = include_str!("../../capi/include/terrace.h");

/// Install the libraries, the header, a pkg-config file and this command
///
/// All of them are taken from beside this command, where `cargo build --release --workspace` leaves them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to: bin, lib and include in this directory
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,

    /// A directory to put in front of all paths, for packages; the installed files do not mention it
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

/// Installs; says on standard output what came where.
pub fn install(arguments: &Arguments) -> Result<(), Failure> {
    let directory_read = |error| Failure::System("the current directory could not be read", error);
    let prefix = std::path::absolute(&arguments.prefix).map_err(directory_read)?;
    let root = match &arguments.destdir {
        Some(destdir) => destdir.join(prefix.strip_prefix("/").unwrap_or(&prefix)),
        None => prefix.clone(),
    };
    let command =
        std::env::current_exe().map_err(|error| Failure::System("the command's own path could not be read", error))?;
    let built = command.parent().unwrap_or(Path::new("/"));
    for (place, mode, content) in [
        ("bin/terrace", 0o755, Content::File(command.clone())),
        ("lib/libterrace.so", 0o755, Content::File(built.join("libterrace.so"))),
        ("lib/libterrace.a", 0o644, Content::File(built.join("libterrace.a"))),
        ("include/terrace.h", 0o644, Content::Text(HEADER.to_owned())),
        ("lib/pkgconfig/terrace.pc", 0o644, Content::Text(package(&prefix))),
    ] {
        let place = root.join(place);
        put(&place, mode, &content).map_err(|error| Failure::NotInstalled(place.clone(), error))?;
        let _ = writeln!(io::stdout(), "{}", place.display());
    }
    Ok(())
}

enum Content {
    File(PathBuf),
    Text(String),
}

/// Writes a file under another name and moves it into place: the old one may be in use.
fn put(place: &Path, mode: u32, content: &Content) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let draft = place.with_extension(format!("{}.new", std::process::id()));
    let written = match content {
        Content::File(path) => fs::copy(path, &draft)
            .map(drop)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        Content::Text(text) => fs::write(&draft, text),
    };
    written
        .and_then(|()| fs::set_permissions(&draft, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&draft, place))
        .inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// The pkg-config file. Paths are in quotes, since a prefix may have a space in it.
fn package(prefix: &Path) -> String {
    format!(
        "prefix={}\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: terrace\n\
         Description: {}\n\
         Version: {}\n\
         Libs: -L\"${{libdir}}\" -lterrace\n\
         Libs.private: -ldl -lpthread\n\
         Cflags: -I\"${{includedir}}\"\n",
        prefix.display(),
        "A thread-caching, multi-arena memory allocator",
        env!("CARGO_PKG_VERSION"),
    )
}
