//! Commands to run under a lock, as text for `bash` and `python3`, and whether other programs are installed.

use std::process::{Command, Stdio};

/// For `bash`: asks a question, repeats the answer, and ends with 4.
pub(crate) const ASK: &str = "read -p 'Really? ' answer; echo \"told: $answer\"; exit 4";

/// For `python3`: writes the name of each signal in its arguments to the file `signals` when it comes, each time. The
/// file says `READY` first. TERM ends it with 5.
///
/// The names are written to a pipe by the signal handlers themselves, so that two in quick succession are two.
pub(crate) const LISTENER: &str = "
import os, signal, sys
log = os.open('signals', os.O_CREAT | os.O_APPEND | os.O_WRONLY)
heard, hears = os.pipe()
os.set_blocking(hears, False)
signal.set_wakeup_fd(hears)
names = {}
for name in sys.argv[1:] + ['TERM']:
    number = int(name) if name.isdigit() else getattr(signal, 'SIG' + name)
    names[number] = name
    signal.signal(number, lambda *_: None)
os.write(log, b'READY\\n')
while True:
    name = names[os.read(heard, 1)[0]]
    os.write(log, name.encode() + b'\\n')
    if name == 'TERM':
        os._exit(5)
";

/// For `python3`: as an editor does, takes the terminal in raw mode, shows `editing`, and leaves the modes as they were
/// when `q` is typed. What comes on stdin is read first, if it is no terminal, and its lines are counted.
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

/// Whether a program is installed. What a test leaves out for want of one is printed.
pub(crate) fn has(program: &str) -> bool {
    let has =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("left out: there is no {program}");
    }
    has
}

/// For `sh`: writes to the file in its argument as long as it lives, and heeds no TERM and no HUP.
pub(crate) const TICK: &str = "trap '' TERM HUP; while :; do echo >> \"$1\"; sleep 0.1; done";

/// For `python3`: leaves `sh tick` behind as a daemon does, with two forks, in a session of its own.
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

/// For `python3`: starts `sh tick` in a session of its own and waits for it.
pub(crate) const SESSION: &str = "
import subprocess, sys
subprocess.run(['sh', 'tick', sys.argv[1]], start_new_session=True)
";

/// Whether we may change users and make containers. What a test leaves out otherwise is printed.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("left out: this needs the rights of root");
    }
    is_root
}
