//! Scripts for `bash`, `sh` and `python3` to run under a lock, and checks for installed programs and root.

use std::process::{Command, Stdio};

/// For `bash`: prompts for a line, prints it, and exits with 4.
pub(crate) const READ_REPLY: &str = "read -p 'Really? ' reply; echo \"read: $reply\"; exit 4";

/// For `python3`: appends the name of each received signal to the file `signals`, for the signals in its
/// arguments. The first line is `READY`. TERM ends it with exit code 5.
///
/// Signal handlers write to a pipe, so that two signals in quick succession are both recorded.
pub(crate) const LISTENER: &str = "
import os, signal, sys
log = os.open('signals', os.O_CREAT | os.O_APPEND | os.O_WRONLY)
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
names = {}
for name in sys.argv[1:] + ['TERM']:
    number = int(name) if name.isdigit() else getattr(signal, 'SIG' + name)
    names[number] = name
    signal.signal(number, lambda *_: None)
os.write(log, b'READY\\n')
while True:
    name = names[os.read(reader, 1)[0]]
    os.write(log, name.encode() + b'\\n')
    if name == 'TERM':
        os._exit(5)
";

/// For `python3`: sets the terminal to raw mode as an editor does, shows `editing`, and restores the modes
/// when `q` is typed. If stdin is not a terminal, it is read first and its lines are counted.
pub(crate) const EDITOR: &str = "
import os, sys, termios, tty
if not os.isatty(0):
    print('lines:', len(sys.stdin.readlines()), flush=True)
screen = os.open('/dev/tty', os.O_RDWR)
before = termios.tcgetattr(screen)
tty.setraw(screen)
os.write(screen, b'\\x1b[?1049hediting')
while os.read(screen, 1) != b'q':
    pass
os.write(screen, b'\\x1b[?1049l')
termios.tcsetattr(screen, termios.TCSADRAIN, before)
";

/// Whether a program is installed. If not, prints that the test is skipped.
pub(crate) fn is_installed(program: &str) -> bool {
    let is_installed =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_installed {
        eprintln!("skipped: {program} is not installed");
    }
    is_installed
}

/// For `sh`: appends to the file in its argument every 0.1 s, and ignores TERM and HUP.
pub(crate) const TICK: &str = "trap '' TERM HUP; while :; do echo >> \"$1\"; sleep 0.1; done";

/// For `python3`: starts `sh tick` as a daemon: with two forks, in another session.
pub(crate) const DAEMON: &str = "
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp('sh', ['sh', 'tick', sys.argv[1]])
    os._exit(0)
os.wait()
time.sleep(60)
";

/// For `python3`: starts `sh tick` in another session and waits for it.
pub(crate) const SESSION: &str = "
import subprocess, sys
subprocess.run(['sh', 'tick', sys.argv[1]], start_new_session=True)
";

/// Whether this process is root, so that it may change users and make containers. If not, prints that the
/// test is skipped.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}
