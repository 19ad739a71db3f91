//! Which file a command's name stands for, by the rules of `execvp`.

use crate::failure::Failure;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file that running `command` would run. `path` is the value of `PATH`.
///
/// A name with a slash is a path already. Of the others the first executable file on the search path is taken; when
/// there are only files that may not be executed, that is the failure, not their absence.
pub fn resolve(command: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    if command.as_bytes().contains(&b'/') {
        return check(PathBuf::from(command));
    }
    if command.is_empty() {
        return Err(Failure::CommandNotFound(PathBuf::new()));
    }
    let mut refused = None;
    // What the C library searches when there is no PATH.
    for directory in std::env::split_paths(path.unwrap_or(OsStr::new("/bin:/usr/bin"))) {
        // An empty entry stands for the current directory; `join` keeps the slash that makes it a path.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        match check(directory.join(command)) {
            Ok(program) => return Ok(program),
            Err(failure @ Failure::CannotRun(..)) => refused = refused.or(Some(failure)),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| Failure::CommandNotFound(command.into())))
}

/// Directories and files without any execute permission are refused here; who may execute is left to the kernel.
fn check(program: PathBuf) -> Result<PathBuf, Failure> {
    match program.metadata() {
        Ok(file) if file.is_dir() => Err(Failure::CannotRun(program, io::ErrorKind::IsADirectory.into())),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => {
            Err(Failure::CannotRun(program, io::ErrorKind::PermissionDenied.into()))
        }
        Ok(_) => Ok(program),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Failure::CannotRun(program, error)),
        Err(_) => Err(Failure::CommandNotFound(program)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_executable_file_on_the_path_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let places = ["plain", "first", "second"].map(|name| root.path().join(name));
        file(&places[0].join("tool"), 0o644);
        file(&places[1].join("tool"), 0o755);
        file(&places[2].join("tool"), 0o755);
        let path = std::env::join_paths(&places).unwrap();
        assert_eq!(resolve(OsStr::new("tool"), Some(&path)).unwrap(), places[1].join("tool"));
    }

    #[test]
    fn a_file_without_execute_permission_is_refused_and_not_absent() {
        let root = tempfile::tempdir().unwrap();
        file(&root.path().join("tool"), 0o644);
        let failure = resolve(OsStr::new("tool"), Some(root.path().as_os_str())).unwrap_err();
        assert_eq!(failure.exit_status(), 126, "{failure}");
        let failure = resolve(root.path().join("tool").as_os_str(), None).unwrap_err();
        assert_eq!(failure.exit_status(), 126, "{failure}");
    }

    #[test]
    fn a_directory_is_refused() {
        let failure = resolve(OsStr::new("/"), None).unwrap_err();
        assert_eq!(failure.exit_status(), 126, "{failure}");
    }

    #[test]
    fn a_name_that_no_file_has_is_not_found() {
        let root = tempfile::tempdir().unwrap();
        for name in ["tool", "", "./no/such/tool"] {
            let failure = resolve(OsStr::new(name), Some(root.path().as_os_str())).unwrap_err();
            assert_eq!(failure.exit_status(), 127, "{failure}");
        }
    }
}
