//! An invalid flag is a usage error. An invalid variable or file is a configuration error.

use super::*;

/// Resolves the settings from these flags, with `DIR` replaced by this folder, and nodes in the environment.
fn resolve_flags(flags: &[&str], folder: &Path) -> Result<Cluster, Failure> {
    let folder = folder.to_str().expect("a name in UTF-8");
    let flags = flags.iter().map(|flag| flag.replace("DIR", folder));
    let text: Vec<OsString> =
        ["quorlock", "status", "x"].map(str::to_owned).into_iter().chain(flags).map(OsString::from).collect();
    let Ok(mut args) = Args::read(&text, false) else { panic!("{text:?} cannot be read") };
    let nodes = args.command.nodes().expect("nodes").clone();
    resolve(nodes, &|name| {
        (name == "QUORLOCK_NODES").then(|| OsString::from("rediss://a,redis://b,redis://c"))
    })
}

#[test]
fn an_invalid_flag_is_named_and_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a temp folder");
    for (name, text) in [("empty", ""), ("bad.pem", "no certificate"), ("bad.toml", "quorum = 9")] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    for (flags, text) in [
        (&["--quorum", "9"][..], "--quorum: a quorum of 9 is more"),
        (&["--quorum", "0"], "--quorum: "),
        (&["--clock-drift", "7"], "--clock-drift: "),
        (&["--reply-timeout", "0"], "--reply-timeout: a reply timeout of 0s"),
        (&["--dial-timeout", "2h"], "--dial-timeout: "),
        (&["--max-ttl", "99h"], "--max-ttl: a max ttl of "),
        (&["--fencing-retention", "1s"], "--fencing-retention: fences kept for 1s"),
        (&["--key-prefix", "quorlock:x"], "--key-prefix: "),
        (&["--nodes", "bad"], "--nodes: node 1 of 1"),
        (&["--nodes", "redis://a,redis://a"], "--nodes: "),
        (&["--config", "/no"], "--config: No such file"),
        (&["--password-file", "/no"], "--password-file: No such file"),
        (&["--password-file", "DIR/empty"], "--password-file: the file is empty"),
        (&["--tls-ca", "/no"], "--tls-ca: No such file"),
        (&["--tls-cert", "DIR/empty"], "--tls-cert: it goes together with --tls-key: give both"),
        (&["--tls-key", "DIR/empty"], "--tls-key: it goes together with --tls-cert: give both"),
        (&["--nodes", "redis://a", "--tls-ca", "DIR/empty"], "--tls-ca: authorities are given"),
        (&["--tls-ca", "DIR/empty"], "--tls-ca: "),
        (&["--tls-ca", "DIR/bad.pem"], "--tls-ca: "),
        (&["--tls-cert", "DIR/bad.pem", "--tls-key", "DIR/empty"], "--tls-cert: "),
        (&["--tls-cert", CERTIFICATE, "--tls-key", "DIR/bad.pem"], "--tls-key: "),
    ] {
        fs::write(folder.path().join("good.pem"), include_str!("good.pem")).expect("a file");
        let failure = resolve_flags(flags, folder.path()).err().unwrap_or_else(|| panic!("{flags:?} works"));
        assert!(failure.message.starts_with(text), "{flags:?}: {failure:?}");
        assert_eq!(failure.code, exit::USAGE, "{flags:?}: {failure:?}");
    }
    // An error in the file is a configuration error, also if a flag names the file.
    check_invalid(
        resolve_flags(&["--config", "DIR/bad.toml"], folder.path()),
        "bad.toml: line 1: quorum: a quorum",
    );
}

#[test]
fn an_error_in_a_tls_file_names_line_and_field_but_not_the_file() {
    for (field, other) in
        [("tls_ca", ""), ("tls_cert", "\ntls_key = 'SECfile.pem'"), ("tls_key", "\ntls_cert = 'good.pem'")]
    {
        for text in ["", "SECtext", "-----BEGIN CERTIFICATE-----\n*SEC*\n-----END CERTIFICATE-----\n"] {
            let (folder, file) = file_of(&format!("nodes = 'rediss://a'\n\n{field} = 'SECfile.pem'{other}"));
            fs::write(folder.path().join("SECfile.pem"), text).expect("a file");
            fs::write(folder.path().join("good.pem"), include_str!("good.pem")).expect("a file");
            let failure =
                resolve_from(&[], Some(&file)).err().unwrap_or_else(|| panic!("{field}: {text:?} works"));
            assert!(failure.message.contains(&format!("conf.toml: line 3: {field}: ")), "{failure:?}");
            assert!(!failure.message.contains("SEC"), "{failure:?}");
            assert_eq!(failure.code, exit::CONFIG);
        }
    }
}

const CERTIFICATE: &str = "DIR/good.pem";
