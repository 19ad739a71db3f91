//! What keeps a library from being preloaded into a program, as far as the program's file tells.

use crate::image::Image;
use crate::library::Library;
use nix::unistd::{getgid, getuid};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A reason why the library will not be in the program.
#[derive(Debug, PartialEq)]
pub enum Obstacle {
    /// No dynamic loader is involved.
    Static(PathBuf),
    /// The loader ignores `LD_PRELOAD` in a program that runs with more rights than its caller.
    SetId(PathBuf),
    /// The loader refuses a library for another kind of machine.
    OtherMachine(PathBuf),
}

impl Obstacle {
    /// Looks for an obstacle in the program, or in the interpreter when it is a script.
    pub fn between(program: &Path, library: &Library) -> Option<Self> {
        let (path, image) = image_that_runs(program)?;
        if !image.is_dynamic() {
            return Some(Self::Static(path));
        }
        if !image.same_machine(library.image()) {
            return Some(Self::OtherMachine(path));
        }
        let file = fs::metadata(&path).ok()?;
        let caller = (getuid().as_raw(), getgid().as_raw());
        gains_rights(file.mode(), (file.uid(), file.gid()), caller).then_some(Self::SetId(path))
    }
}

/// What the kernel compares when it tells the dynamic loader to be careful. Users and groups come in this order.
fn gains_rights(mode: u32, file: (u32, u32), caller: (u32, u32)) -> bool {
    let becomes_owner = mode & 0o4000 != 0;
    // Without the right to execute, the bit means something else (chmod(2), mandatory locking).
    let becomes_group = mode & 0o2010 == 0o2010;
    becomes_owner && file.0 != caller.0 || becomes_group && file.1 != caller.1
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(path) => {
                write!(f, "{} is statically linked, and only the dynamic loader can preload a library", path.display())
            }
            Self::SetId(path) => write!(
                f,
                "{} is set-user-ID or set-group-ID, for which the dynamic loader ignores LD_PRELOAD",
                path.display()
            ),
            Self::OtherMachine(path) => {
                write!(f, "{} is for another kind of machine than the library", path.display())
            }
        }
    }
}

/// The ELF file that the kernel ends up with: the program, or the interpreter that a script names. `None` when there is
/// none to be read, which is no obstacle: the kernel says better than a guess what is wrong with such a file.
fn image_that_runs(program: &Path) -> Option<(PathBuf, Image)> {
    let mut path = program.to_owned();
    // The kernel follows interpreters that are scripts themselves this far.
    for _ in 0..5 {
        if let Some(image) = Image::read(&path).ok()? {
            return Some((path, image));
        }
        path = interpreter(&path)?;
    }
    None
}

/// The interpreter in a script's first line.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    // The kernel looks no further than this, either.
    BufReader::new(File::open(script).ok()?.take(256)).read_until(b'\n', &mut line).ok()?;
    let path = line.strip_prefix(b"#!")?.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next()?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::static_program::static_program;
    use std::os::unix::fs::PermissionsExt;

    fn file(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Any shared object for this machine stands for the library: the test itself is one.
    fn obstacle(program: &Path) -> Option<Obstacle> {
        let itself = std::env::current_exe().unwrap();
        Obstacle::between(program, &Library::find(Some(&itself)).unwrap())
    }

    #[test]
    fn a_dynamic_program_and_a_script_for_it_have_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        file(&script, b"#!/bin/sh\nexit\n", 0o755);
        assert_eq!(obstacle(Path::new("/bin/sh")), None);
        assert_eq!(obstacle(&script), None);
    }

    #[test]
    fn a_static_program_and_a_script_for_it_cannot_be_preloaded_into() {
        let directory = tempfile::tempdir().unwrap();
        let (program, script) = (directory.path().join("static"), directory.path().join("script"));
        file(&program, &static_program(0), 0o755);
        file(&script, format!("#! {} -x\n", program.display()).as_bytes(), 0o755);
        assert_eq!(obstacle(&program), Some(Obstacle::Static(program.clone())));
        assert_eq!(obstacle(&script), Some(Obstacle::Static(program)));
    }

    #[test]
    fn a_program_for_another_machine_cannot_take_the_library() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("foreign");
        let mut content = fs::read("/bin/sh").unwrap();
        // The low byte of e_machine.
        content[18] ^= 1;
        file(&program, &content, 0o755);
        assert_eq!(obstacle(&program), Some(Obstacle::OtherMachine(program)));
    }

    #[test]
    fn a_program_that_runs_as_somebody_else_gains_rights() {
        let file = (0, 50);
        assert!(gains_rights(0o4755, file, (1000, 50)), "set-user-ID");
        assert!(!gains_rights(0o4755, file, (0, 1000)), "set-user-ID, and the caller is that user");
        assert!(gains_rights(0o2755, file, (0, 1000)), "set-group-ID");
        assert!(!gains_rights(0o2755, file, (1000, 50)), "set-group-ID, and the caller is in that group");
        assert!(!gains_rights(0o2745, file, (1000, 1000)), "no set-group-ID, but mandatory locking");
        assert!(!gains_rights(0o0755, file, (1000, 1000)), "neither bit");
    }

    #[test]
    fn a_file_that_is_neither_program_nor_script_is_left_to_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        file(&text, b"plain text", 0o755);
        assert_eq!(obstacle(&text), None);
    }
}
