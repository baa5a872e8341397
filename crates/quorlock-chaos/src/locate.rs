//! Finds the server binary.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Finds the server binary: `QUORLOCK_REDIS_SERVER` (a path or a name), else `redis-server`, else
/// `valkey-server`. Names are looked up in `PATH` and in folders that a `PATH` often lacks.
///
/// # Errors
/// [`NoBinary`], with instructions for installing one.
pub fn locate() -> Result<PathBuf, NoBinary> {
    search(
        env::var_os(VARIABLE).filter(|name| !name.to_string_lossy().trim().is_empty()),
        env::var_os("PATH").as_deref(),
    )
}

/// There is no server binary. The message names the packages to install.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; install Redis or Valkey ({INSTALL}), or set {VARIABLE} to the path of a server", self.sought())]
pub struct NoBinary {
    is_set: bool,
}

impl NoBinary {
    /// Whether the environment variable is set, to something that is not a program.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// What was searched for. The variable's value is not shown.
    fn sought(&self) -> String {
        if self.is_set {
            format!("{VARIABLE}: it names no program that can be executed")
        } else {
            format!("{} not found", NAMES[0])
        }
    }
}

fn search(configured: Option<OsString>, path: Option<&OsStr>) -> Result<PathBuf, NoBinary> {
    let is_set = configured.is_some();
    let names =
        configured.map_or_else(|| NAMES.map(PathBuf::from).to_vec(), |name| vec![PathBuf::from(name)]);
    names.iter().find_map(|name| find(name, path)).ok_or(NoBinary { is_set })
}

/// Finds a program as a shell does: a name with a slash in it is a path.
fn find(name: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return is_executable(name).then(|| name.to_owned());
    }
    let folders = path.into_iter().flat_map(env::split_paths).chain(EXTRA_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

const VARIABLE: &str = "QUORLOCK_REDIS_SERVER";
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
const EXTRA_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin"];
const INSTALL: &str = "Debian and Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; \
    Alpine: apk add redis; Arch: pacman -S valkey; macOS: brew install redis";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temp folder");
        for name in names {
            let file = folder.path().join(name);
            fs::write(&file, "").expect("a file");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        folder
    }

    #[test]
    fn redis_comes_before_valkey_and_the_variable_before_both() {
        let both = folder_with(&["valkey-server", "redis-server", "my-server"]);
        let path = Some(both.path().as_os_str());
        assert_eq!(search(None, path), Ok(both.path().join("redis-server")));
        assert_eq!(search(Some("my-server".into()), path), Ok(both.path().join("my-server")));
        let exact = both.path().join("valkey-server");
        assert_eq!(search(Some(exact.clone().into()), None), Ok(exact));
    }

    #[test]
    fn a_file_that_is_not_executable_is_no_server() {
        let folder = folder_with(&["my-server"]);
        let file = folder.path().join("my-server");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
        assert!(search(Some(file.into()), None).is_err());
    }

    #[test]
    fn the_error_names_what_was_sought_and_what_to_install() {
        let message = search(Some("/no/such/server".into()), None).expect_err("no such file").to_string();
        for part in ["QUORLOCK_REDIS_SERVER: it names no program", "apt-get", "dnf", "apk", "brew"] {
            assert!(message.contains(part), "{part} is missing from: {message}");
        }
        assert!(!message.contains("/no/such"), "the value of the variable is not shown: {message}");
        let none = search(None, None);
        assert!(
            none.is_ok()
                || none.is_err_and(|none| !none.is_set() && none.to_string().contains("redis-server not"))
        );
    }
}
