//! Where the shared library is: beside the command, or where an installation puts it.

use crate::failure::Failure;
use crate::image::Image;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The places that are looked at, in this order, seen from the directory of the `terrace` command: a build's target
/// directory, an installation's prefix, and a prefix that keeps private libraries apart.
const PLACES: [&str; 3] = ["libterrace.so", "../lib/libterrace.so", "../lib/terrace/libterrace.so"];

/// The shared library, found and checked.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    image: Image,
}

impl Library {
    /// Finds the library beside the running `terrace`, or takes the one that `named` says.
    pub fn find(named: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Self::at(path);
        }
        let command = std::env::current_exe()
            .map_err(|error| Failure::System("the command's own path could not be read", error))?;
        Self::at(&search(command.parent().unwrap_or(Path::new("/")))?)
    }

    fn at(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            return Err(Failure::LibraryNotFound(vec![path.to_owned()]));
        }
        // The command may run in another directory than this one.
        let path = std::path::absolute(path)
            .map_err(|error| Failure::System("the current directory could not be read", error))?;
        if path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
            return Err(Failure::UnusableLibrary(
                path,
                "its path holds a space or a colon, which LD_PRELOAD takes as an end",
            ));
        }
        match Image::read(&path) {
            Ok(Some(image)) if image.is_shared_object() => Ok(Self { path, image }),
            Ok(_) => Err(Failure::UnusableLibrary(path, "it is not a shared object")),
            Err(_) => Err(Failure::UnusableLibrary(path, "it cannot be read")),
        }
    }

    /// What kind of machine the library is for.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The value of `LD_PRELOAD` that puts the library before all that is preloaded already, since the first definition
    /// of `malloc` is the one that counts.
    pub fn before(&self, preloaded: Option<&OsStr>) -> OsString {
        let mut value = self.path.clone().into_os_string();
        if let Some(others) = preloaded.filter(|others| !others.is_empty()) {
            value.push(":");
            value.push(others);
        }
        value
    }
}

/// The first of [`PLACES`] that holds a file.
fn search(directory: &Path) -> Result<PathBuf, Failure> {
    let places = PLACES.map(|place| match place.strip_prefix("../") {
        // Without the dots: the path is shown to people, and to the program in LD_PRELOAD.
        Some(below) => directory.parent().unwrap_or(directory).join(below),
        None => directory.join(place),
    });
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| Failure::LibraryNotFound(places.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::static_program::static_program;
    use std::fs;

    #[test]
    fn the_library_beside_the_command_comes_before_an_installed_one() {
        let prefix = tempfile::tempdir().unwrap();
        let bin = prefix.path().join("bin");
        let expected = ["bin/libterrace.so", "lib/libterrace.so", "lib/terrace/libterrace.so"];
        let expected = expected.map(|place| prefix.path().join(place));
        for path in &expected {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for path in &expected {
            assert_eq!(search(&bin).unwrap(), *path);
            fs::remove_file(path).unwrap();
        }
        match search(&bin) {
            Err(Failure::LibraryNotFound(places)) => assert_eq!(places, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_is_no_shared_object_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libterrace.so");
        for content in [b"not a library".to_vec(), static_program(0)] {
            fs::write(&path, content).unwrap();
            let refusal = Library::find(Some(&path)).unwrap_err().to_string();
            assert!(refusal.ends_with("it is not a shared object"), "{refusal}");
        }
    }

    #[test]
    fn a_path_that_ld_preload_cannot_express_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a space.so", "a:colon.so"] {
            let path = directory.path().join(name);
            fs::write(&path, "").unwrap();
            let refusal = Library::find(Some(&path)).unwrap_err().to_string();
            assert!(refusal.contains("a space or a colon"), "{refusal}");
        }
    }

    #[test]
    fn the_library_goes_before_what_is_preloaded_already() {
        let image = Image::read(&std::env::current_exe().unwrap()).unwrap().unwrap();
        let library = Library { path: "/lib/libterrace.so".into(), image };
        assert_eq!(library.before(None), "/lib/libterrace.so");
        assert_eq!(library.before(Some(OsStr::new(""))), "/lib/libterrace.so");
        assert_eq!(library.before(Some(OsStr::new("a.so b.so"))), "/lib/libterrace.so:a.so b.so");
    }
}
