//! Emulation of servers that are not installed: a proxy before a real redis-server that rewrites requests.
//!
//! It changes only what `INFO` shows, to clients and to scripts, and which commands exist. It rewrites
//! requests and not replies, so replies keep their order.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use quorlock_chaos::{Server, Setup, redis};

/// The `INFO` of a server and the features that it lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerProfile {
    /// Its `INFO`, with section headings.
    pub(crate) info: &'static str,
    /// Commands that it rejects as unknown.
    pub(crate) missing: &'static [&'static str],
    /// Whether scripts may read `INFO`.
    pub(crate) info_in_scripts: bool,
    /// Whether it runs scripts without keys. A proxy that routes commands by key does not.
    pub(crate) keyless_scripts: bool,
}

/// An emulated server on its own loopback port. The real server ends when this is dropped.
pub(crate) struct EmulatedServer {
    server: Server,
    port: u16,
}

impl EmulatedServer {
    pub(crate) fn start(profile: ServerProfile) -> Self {
        let server = Server::start(&Setup::new()).expect("a redis-server is installed (scripts/setup)");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server_port = server.port();
        // EVALSHA may name a script that another connection loaded.
        let scripts: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let scripts = Arc::clone(&scripts);
                // Fails when either side has closed its connection.
                thread::spawn(move || serve(&client, server_port, profile, &scripts));
            }
        });
        Self { server, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The real server, for checks of its keys.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }
}

fn serve(
    client: &TcpStream,
    port: u16,
    profile: ServerProfile,
    scripts: &Mutex<HashMap<String, Vec<u8>>>,
) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut replies, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut replies, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut commands = BufReader::new(client);
    while let Some(command) = read(&mut commands)? {
        let rewritten = profile.rewrite(command, &mut scripts.lock().expect("not poisoned"));
        (&server).write_all(&encode(&rewritten))?;
    }
    server.shutdown(std::net::Shutdown::Write)
}

impl ServerProfile {
    /// The request that makes the real server reply as the emulated one would.
    fn rewrite(&self, command: Vec<Vec<u8>>, scripts: &mut HashMap<String, Vec<u8>>) -> Vec<Vec<u8>> {
        let name = command[0].to_ascii_uppercase();
        let name = String::from_utf8_lossy(&name);
        if self.missing.contains(&&*name) {
            let words = format!("ERR unknown command '{name}', with args beginning with: ");
            return to_bytes(&["EVAL", "return redis.error_reply(ARGV[1])", "0", &words]);
        }
        let hash = |text: &[u8]| redis::Script::new(&String::from_utf8_lossy(text)).get_hash().to_owned();
        match (&*name, command.get(1)) {
            ("INFO", _) => to_bytes(&["EVAL", "return ARGV[1]", "0", self.info]),
            ("SCRIPT", _) if command.len() == 3 => {
                scripts.insert(hash(&command[2]), command[2].clone());
                command
            }
            ("EVAL" | "EVALSHA", Some(_)) if !self.keyless_scripts && command[2] == b"0" => {
                to_bytes(&["EVAL", "return redis.error_reply(ARGV[1])", "0", "ERR no key to route by"])
            }
            ("EVAL", Some(text)) => {
                scripts.insert(hash(text), text.clone());
                self.with_emulated_info(text.clone(), &command)
            }
            ("EVALSHA", Some(hash)) => match scripts.get(&*String::from_utf8_lossy(hash)) {
                Some(text) => self.with_emulated_info(text.clone(), &command),
                None => command,
            },
            _ => command,
        }
    }

    /// The script call, in which `INFO` shows the emulated text.
    fn with_emulated_info(&self, text: Vec<u8>, command: &[Vec<u8>]) -> Vec<Vec<u8>> {
        // `CONFIG` is never allowed in scripts, so its error is the one that scripts get for `INFO`.
        let mut info = String::from("return real.call('CONFIG', 'GET', 'port')");
        if self.info_in_scripts {
            let sections = self.info.split("# ").filter_map(|section| section.split_once('\n'));
            let sections: Vec<String> = sections
                .map(|(name, text)| format!("['{}'] = [==[\n{text}]==],", name.trim().to_lowercase()))
                .collect();
            info = format!("return ({{{}}})[section] or ''", sections.concat());
        }
        let shim = format!(
            "local real = redis\nlocal function info(section) {info} end\nlocal redis = {{pcall = real.pcall, \
             error_reply = real.error_reply, call = function(name, ...) if name == 'INFO' then return info(...) end \
             return real.call(name, ...) end}}\n"
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

const PLAIN: ServerProfile =
    ServerProfile { info: "", missing: &[], info_in_scripts: true, keyless_scripts: true };

/// No `run_id`; a new replication id at each start.
pub(crate) const DRAGONFLY: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:7.4.0\ndragonfly_version:df-v1.31.0\nredis_mode:standalone\narch_bits:64\n\
           multiplexing_api:iouring\ntcp_port:6379\nthread_count:1\nprocess_id:1\nuptime_in_seconds:10275\n\n\
           # Memory\nused_memory:16511056\nmaxmemory:419430400\ncache_mode:store\nmaxmemory_policy:noeviction\n\n\
           # Stats\ntotal_commands_processed:6333\nevicted_keys:0\n\n\
           # Replication\nrole:master\nconnected_slaves:0\n\
           master_replid:c7a9e3b0d1f24c5686a7d2e91b8f4a3d5c6e7f80\n",
    ..PLAIN
};

/// Neither `run_id` nor replication id, and no memory limit.
pub(crate) const KVROCKS: ServerProfile = ServerProfile {
    info: "# Server\nversion:2.9.0\nkvrocks_version:2.9.0\nredis_version:4.0.0\nredis_mode:standalone\nos:Linux\n\
           arch_bits:64\nprocess_id:1\ntcp_port:6666\nuptime_in_seconds:61\n\n\
           # Memory\nused_memory_rss:31723520\nused_memory_lua:36864\n\n\
           # Stats\ntotal_commands_processed:12\n\n\
           # Replication\nrole:master\nconnected_slaves:0\nmaster_repl_offset:4\n",
    ..PLAIN
};

/// A `run_id`, a constant replication id and no memory limit.
pub(crate) const GARNET: ServerProfile = ServerProfile {
    info: "# Server\ngarnet_version:1.0.50\nos:Unix 6.6.0\nprocessor_count:4\narch_bits:64\nuptime_in_seconds:9\n\
           redis_version:7.2.5\nredis_mode:standalone\nrun_id:4b1f6d7a9c3e58b20d6f7a1c4e9b3d5f8a2c6e0b\n\n\
           # Memory\nsystem_page_size:4096\ntotal_system_memory:16655925248\n\n\
           # Stats\ntotal_commands_processed:3\n\n\
           # Replication\nrole:master\nconnected_slaves:0\n\
           master_replid:0000000000000000000000000000000000000000\n",
    ..PLAIN
};

/// One of two masters that replicate each other.
pub(crate) const KEYDB_ACTIVE: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:6.3.4\nredis_mode:standalone\nprocess_id:1\n\
           run_id:5b2e7c91d04f8a63e1b7d9c25f40a86e3d17b9c4\ntcp_port:6379\n\n\
           # Memory\nmaxmemory:0\nmaxmemory_policy:noeviction\n\n# Stats\nevicted_keys:0\n\n\
           # Replication\nrole:active-replica\nmaster_host:10.0.0.2\nmaster_link_status:up\n\
           master_replid:9e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# KeyDB\nmvcc_depth:0\n",
    ..PLAIN
};

/// `INFO` is not allowed in scripts.
pub(crate) const ENTERPRISE: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:7.4.0\nredis_mode:standalone\nos:Linux\narch_bits:64\ntcp_port:12000\n\
           run_id:2f8c5d7b91e0a4638d2b7c1f9e5a4063d8b7c2e1\n\n\
           # Memory\nused_memory:2310400\nmaxmemory:104857600\nmaxmemory_policy:noeviction\n\n\
           # Replication\nrole:master\nconnected_slaves:0\n",
    info_in_scripts: false,
    ..PLAIN
};

/// A Sentinel, as `INFO` of Valkey 8 shows it.
pub(crate) const VALKEY_SENTINEL: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.0.1\nserver_mode:sentinel\n\
           run_id:7d1c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\ntcp_port:26379\n\n\
           # Sentinel\nsentinel_masters:1\n",
    missing: &["EVAL", "EVALSHA", "SCRIPT", "SELECT"],
    ..PLAIN
};

/// A proxy that routes commands by key and has no commands about connections.
pub(crate) const PROXY: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:7.2.4\nredis_mode:standalone\n\n# Replication\nrole:master\n",
    missing: &["HELLO", "CLIENT", "SUBSCRIBE", "PUBLISH"],
    keyless_scripts: false,
    ..PLAIN
};
