//! Emulation of servers that are not installed: a proxy before a real redis-server that rewrites requests.
//!
//! It changes only what `INFO` shows, to clients and to scripts, and which commands exist. It rewrites
//! requests and not replies, so replies keep their order.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use quorlock_chaos::{Server, Setup, redis};

#[path = "emulated_server/profiles.rs"]
pub(crate) mod profiles;

/// The `INFO` of a server and the features that it lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerProfile {
    /// Its `INFO`, with section headings; empty for that of the real server.
    pub(crate) info: &'static str,
    /// What scripts read.
    pub(crate) script_info: ScriptInfo,
    /// Commands that it rejects as unknown.
    pub(crate) missing: &'static [&'static str],
    /// Whether it runs scripts without keys. A proxy that routes commands by key does not.
    pub(crate) keyless_scripts: bool,
}

/// What scripts read if they call `INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptInfo {
    /// The text that clients get.
    Same,
    /// An error: scripts may not call it.
    Refused,
    /// The text of the real server, behind a proxy that has a text of its own.
    Real,
}

/// An emulated server on its own loopback port. The real server ends when this is dropped.
pub(crate) struct EmulatedServer {
    server: Server,
    port: u16,
    shared: Arc<Shared>,
}

/// What the connections share.
struct Shared {
    profile: ServerProfile,
    info: Mutex<String>,
    /// EVALSHA may name a script that another connection loaded.
    scripts: Mutex<HashMap<String, Vec<u8>>>,
    clients: Mutex<Vec<TcpStream>>,
}

impl EmulatedServer {
    pub(crate) fn start(profile: ServerProfile) -> Self {
        let server = Server::start(&Setup::new()).expect("a redis-server is installed (scripts/setup)");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server_port = server.port();
        let shared = Arc::new(Shared {
            profile,
            info: Mutex::new(profile.info.to_owned()),
            scripts: Mutex::default(),
            clients: Mutex::default(),
        });
        let of_clients = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                lock(&of_clients.clients).extend(client.try_clone());
                let shared = Arc::clone(&of_clients);
                // Fails when either side has closed its connection.
                thread::spawn(move || serve(&client, server_port, &shared));
            }
        });
        Self { server, port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The real server, for checks of its keys.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// From now on `INFO` has the second text in place of the first.
    pub(crate) fn change_info(&self, from: &str, to: &str) {
        let mut info = lock(&self.shared.info);
        assert!(info.contains(from), "{info}");
        *info = info.replace(from, to);
    }

    /// Ends all connections, as a restart does.
    pub(crate) fn disconnect(&self) {
        for client in lock(&self.shared.clients).drain(..) {
            // Fails if it is closed already.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: &TcpStream, port: u16, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut replies, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut replies, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut commands = BufReader::new(client);
    while let Some(command) = read(&mut commands)? {
        (&server).write_all(&encode(&shared.rewrite(command)))?;
    }
    server.shutdown(Shutdown::Write)
}

impl Shared {
    /// The request that makes the real server reply as the emulated one would.
    fn rewrite(&self, command: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let (name, mut scripts) = (command[0].to_ascii_uppercase(), lock(&self.scripts));
        let name = String::from_utf8_lossy(&name);
        if self.profile.missing.contains(&&*name) {
            let words = format!("ERR unknown command '{name}', with args beginning with: ");
            return to_bytes(&["EVAL", "return redis.error_reply(ARGV[1])", "0", &words]);
        }
        let hash = |text: &[u8]| redis::Script::new(&String::from_utf8_lossy(text)).get_hash().to_owned();
        match (&*name, command.get(1)) {
            ("INFO", _) if !self.profile.info.is_empty() => {
                to_bytes(&["EVAL", "return ARGV[1]", "0", &lock(&self.info)])
            }
            ("SCRIPT", _) if command.len() == 3 => {
                scripts.insert(hash(&command[2]), command[2].clone());
                command
            }
            ("EVAL" | "EVALSHA", Some(_)) if !self.profile.keyless_scripts && command[2] == b"0" => {
                to_bytes(&["EVAL", "return redis.error_reply(ARGV[1])", "0", "ERR no key to route by"])
            }
            ("EVAL", Some(text)) => {
                scripts.insert(hash(text), text.clone());
                self.with_emulated_info(text.clone(), command)
            }
            ("EVALSHA", Some(hash)) => match scripts.get(&*String::from_utf8_lossy(hash)) {
                Some(text) => self.with_emulated_info(text.clone(), command),
                None => command,
            },
            _ => command,
        }
    }

    /// The script call, in which `INFO` shows the emulated text.
    fn with_emulated_info(&self, text: Vec<u8>, command: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let info = match self.profile.script_info {
            ScriptInfo::Real => return command,
            ScriptInfo::Same if self.profile.info.is_empty() => return command,
            // `CONFIG` is never allowed in scripts, so its error is the one that scripts get for `INFO`.
            ScriptInfo::Refused => "return real[how]('CONFIG', 'GET', 'port')".to_owned(),
            ScriptInfo::Same => {
                let info = lock(&self.info);
                let sections = info.split("# ").filter_map(|section| section.split_once('\n'));
                // Garnet numbers its stores: the section `store` has the heading `Store_DB_0`.
                let sections: Vec<String> = sections
                    .map(|(name, text)| (name.split('_').next().unwrap_or_default().to_lowercase(), text))
                    .map(|(name, text)| format!("['{name}'] = [==[\n{text}]==],"))
                    .collect();
                format!("return ({{{}}})[section] or ''", sections.concat())
            }
        };
        let shim = format!(
            "local real = redis\nlocal function info(how, section) {info} end\nlocal function shim(how) return \
             function(name, ...) if name == 'INFO' then return info(how, ...) end return real[how](name, ...) end end\n\
             local redis = {{pcall = shim('pcall'), call = shim('call'), error_reply = real.error_reply}}\n"
        );
        let mut call = vec![b"EVAL".to_vec(), [shim.into_bytes(), text].concat()];
        call.extend_from_slice(&command[2..]);
        call
    }
}

/// Reads one command in RESP; `None` at the end of the stream.
fn read(from: &mut BufReader<&TcpStream>) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut line = String::new();
    let mut count = |from: &mut BufReader<&TcpStream>| -> io::Result<Option<usize>> {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        line.get(1..)
            .and_then(|digits| digits.trim().parse().ok())
            .map(Some)
            .ok_or(io::ErrorKind::InvalidData.into())
    };
    let Some(words) = count(from)? else { return Ok(None) };
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let length = count(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word)?;
        word.truncate(length);
        command.push(word);
    }
    Ok(Some(command))
}

fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn to_bytes(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
