//! `doctor` on managed services, on servers compatible with Redis and behind proxies.

use crate::emulated_server::EmulatedServer;
use crate::emulated_server::profiles::{SERVICES, Verdict};
use crate::world::{Output, json, output, quorlock};

fn run(url: &str, args: &[&str]) -> Output {
    output(quorlock(args).env("QUORLOCK_NODES", url))
}

/// `connect` on the same services: the live tests of the library.
#[test]
fn doctor_says_of_each_service_what_to_do() {
    for service in SERVICES {
        let emulated = EmulatedServer::start(service.profile);
        let url = emulated.url();
        let works = service.verdict == Verdict::Works;
        let init = run(&url, &["init"]);
        assert!(init.code == Some(0) || !works, "{}: {init:?}", service.name);
        let doctor = run(&url, &["doctor"]);
        assert_eq!(doctor.code, Some(u8::from(!works).into()), "{}: {doctor:?}", service.name);
        for text in service.doctor {
            assert!(doctor.stdout.contains(text), "{}: {text:?} is missing: {doctor:?}", service.name);
        }
        assert!(!doctor.stdout.contains("✗") || !works, "{}: {doctor:?}", service.name);
        let plain = run(&url, &["run", "--mode", "plain", "--wait", "5s", "a", "--", "true"]);
        let has_plain = !matches!(service.verdict, Verdict::Excluded(_));
        assert_eq!(plain.code == Some(0), has_plain, "{}: {plain:?}", service.name);
    }
}

#[test]
fn doctor_reports_a_service_in_json_as_text() {
    let elasticache =
        SERVICES.iter().find(|service| service.name.starts_with("Amazon")).expect("in the table");
    let emulated = EmulatedServer::start(elasticache.profile);
    let report = json(&run(&emulated.url(), &["doctor", "--json"]));
    let node = &report["nodes"][0];
    assert_eq!(node["server"]["service"], "Amazon ElastiCache", "{report}");
    assert!(
        node["findings"][0]["message"].as_str().is_some_and(|it| it.contains("aws elasticache")),
        "{report}"
    );
}
