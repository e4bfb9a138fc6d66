//! Options typed in every place.

use super::*;

fn gather(arguments: &[&str], environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Typed, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("config.yaml.d")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = directory.path().join("config.yaml");
    let config = ["--config", config.to_str().unwrap()];
    let arguments: Vec<OsString> = config.iter().chain(arguments).map(OsString::from).collect();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let gathered = Typed::gather(&arguments, environment);
    gathered.map_err(|failure| failure.to_string().replace(directory.path().to_str().unwrap(), "DIR"))
}

#[test]
fn the_command_line_wins_over_the_environment_over_files() {
    let files = [("config.yaml", "data-dir: /file\ncluster-domain: file\nnode-name: file\n")];
    let environment = [("CORACLE_DATA_DIR", "/environment"), ("CORACLE_CLUSTER_DOMAIN", "environment")];
    let typed = gather(&["-d", "/line"], &environment, &files).unwrap();
    assert_eq!(
        [typed.value("data-dir"), typed.value("cluster-domain"), typed.value("node-name")],
        ["/line", "environment", "file"]
    );
    assert_eq!(typed.value("https-listen-port"), "6443");
}

#[test]
fn lists_come_with_commas_and_again() {
    let typed = gather(&["--tls-san=a,b", "--tls-san", "c", "--disable-agent", "--debug=false"], &[], &[]).unwrap();
    assert_eq!(typed.list("tls-san"), ["a", "b", "c"]);
    assert_eq!((typed.value("disable-agent"), typed.value("debug")), ("true", "false"));
}

#[test]
fn files_replace_or_append() {
    let files = [
        ("config.yaml", "tls-san: [a]\nnode-label:\n- x=1\n- y=2\ndisable-agent: true\nhttps-listen-port: 7000\n"),
        ("config.yaml.d/10-more.yaml", "tls-san+: [b]\nnode-label: [z=3]\n"),
        ("config.yaml.d/20-last.yml", "tls-san+: c\n"),
        ("config.yaml.d/ignored.txt", "rubbish: [\n"),
    ];
    let typed = gather(&[], &[], &files).unwrap();
    assert_eq!(typed.list("tls-san"), ["a", "b", "c"]);
    assert_eq!(typed.list("node-label"), ["z=3"]);
    assert_eq!((typed.value("disable-agent"), typed.value("https-listen-port")), ("true", "7000"));
}

#[test]
fn k3s_options_without_meaning_are_warned_of() {
    let files = [("config.yaml", "flannel-conf: x\netcd-snapshot-retention: 3\n")];
    let typed = gather(&["--flannel-iface", "eth0", "--kube-proxy-arg=x=y", "-d", "/x"], &[], &files).unwrap();
    assert_eq!(typed.warnings.len(), 4);
    assert!(typed.warnings.contains(&"flannel-conf has no meaning in coracle and is ignored".to_owned()));
    assert_eq!(typed.value("data-dir"), "/x");
}

#[test]
fn mistakes_name_the_nearest() {
    let error = |arguments: &[&str], files: &[(&str, &str)]| gather(arguments, &[], files).unwrap_err();
    assert_eq!(error(&["--datadir", "/x"], &[]), "unknown option --datadir: did you mean --data-dir?");
    assert_eq!(error(&["--zzz"], &[]), "unknown option --zzz");
    assert_eq!(error(&["server"], &[]), "unexpected argument \"server\"");
    assert_eq!(
        error(&[], &[("config.yaml", "node-names: x\n")]),
        "DIR/config.yaml: unknown key \"node-names\": did you mean node-name?"
    );
    assert!(error(&[], &[("config.yaml", "a: [\n")]).starts_with("DIR/config.yaml: not valid YAML"));
    assert_eq!(
        error(&[], &[("config.yaml", "data-dir: {a: 1}\n")]),
        "DIR/config.yaml: \"data-dir\" wants a text, a number, true, false or a list of them"
    );
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let arguments = [OsString::from("--config=/nowhere/config.yaml")];
    let error = Typed::gather(&arguments, []).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/config.yaml"), "{error}");
}

#[test]
fn verbosity_counts_and_is_told() {
    let level = |arguments: &[&str]| gather(arguments, &[], &[("config.yaml", "")]).unwrap().value("v").to_owned();
    assert_eq!(level(&[]), "0");
    assert_eq!(level(&["-v"]), "1");
    assert_eq!(level(&["-v", "-v"]), "2");
    assert_eq!(level(&["-v", "3", "--debug"]), "3");
    assert_eq!(level(&["-v=2"]), "2");
}
