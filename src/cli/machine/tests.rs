#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use clap::{CommandFactory, Parser};
use ed25519_dalek::SigningKey;

use super::*;
use crate::registry::{Change, Registry, key_format};
use countersign_core::validity::Validity;

const FILE: &str = "\
# The fleet. Ask ops before you touch it.
machines:
  # web
  - id: web-1      # the old one
    name: prod web
    public_keys: [\"@1\"]
    expires: 2030-01-01

  - id: web-2
    enabled: false   # rotation
    public_keys:
      - \"@2\"
# end
";

/// 2027-01-15T08:00:00Z.
const NOW: u64 = 1_800_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: MachineArgs,
}

fn key(seed: u8) -> String {
    let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    key_format::to_base64(key.as_bytes())
}

/// A registry file, and the command run on it.
struct Fixture {
    directory: tempfile::TempDir,
    text: String,
}

impl Fixture {
    fn new(text: &str) -> Fixture {
        let text = text.replace("@1", &key(1)).replace("@2", &key(2));
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("m.yaml"), &text).unwrap();
        Fixture { directory, text }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("m.yaml")
    }

    fn now(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn registry(&self) -> Registry {
        Registry::load(&self.path(), None).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let arguments = ["machine"].iter().chain(arguments);
        let cli = Cli::try_parse_from(arguments).map_err(|e| CommandError::Usage(e.to_string()))?;
        let mut out = Vec::new();
        run(&cli.args, &RegistrySource::at(&self.path()), NOW, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// Asserts that the command fails with these words, and leaves the file and its directory
    /// alone.
    fn refuses(&self, arguments: &[&str], words: &str) {
        let failure = self.run(arguments).unwrap_err().to_string();
        assert!(failure.contains(words), "{failure}");
        assert_eq!(self.now(), self.text);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn the_arguments_are_a_sound_command() {
    Cli::command().debug_assert();
}

#[test]
fn every_subcommand_has_an_example() {
    let command = Cli::command();
    assert!(command.get_after_help().is_some());
    for subcommand in command.get_subcommands() {
        let help = subcommand.get_after_help().map(ToString::to_string);
        assert!(help.unwrap_or_default().contains("countersign machine"));
    }
}

#[test]
fn the_file_is_given_before_or_after_the_subcommand() {
    for arguments in [
        ["m", "--registry", "f", "list"],
        ["m", "list", "--registry", "f"],
    ] {
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert_eq!(cli.args.registry, Some("f".into()));
    }
}

#[test]
fn registry_and_config_exclude_each_other() {
    assert!(Cli::try_parse_from(["m", "list", "--registry", "f", "--config", "g"]).is_err());
}

#[test]
fn add_writes_the_machine_and_prints_its_id_alone() {
    let fixture = Fixture::new(FILE);
    let added = fixture.run(&["add", "--id", "db-1", "--public-key", &key(3)]);
    assert_eq!(added.unwrap(), "db-1\n");
    let block = format!("  - id: \"db-1\"\n    public_keys: [\"{}\"]\n", key(3));
    assert_eq!(
        fixture.now(),
        fixture.text.replace("# end", &(block + "# end"))
    );
}

#[test]
fn add_takes_everything_a_machine_may_have() {
    let fixture = Fixture::new("machines: []\n");
    let arguments = [
        "add",
        "--id",
        "1e3",
        "--name",
        "a \"b\" #c",
        "--vault",
        "true",
        "--owner",
        "~",
        "--not-before",
        "2026-01-01",
        "--expires",
        "2027-01-31T12:00:00+02:00",
        "--public-key",
        &key(3),
        "--public-key",
        &key(4),
    ];
    fixture.run(&arguments).unwrap();
    let registry = fixture.registry();
    let machine = registry.find("1e3").unwrap();
    assert_eq!(machine.name.as_deref(), Some("a \"b\" #c"));
    assert_eq!(machine.vault.as_deref(), Some("true"));
    assert_eq!(machine.owner.as_deref(), Some("~"));
    assert_eq!(machine.not_before, Some(1_767_225_600));
    assert_eq!(machine.expires, Some(1_801_389_600));
    assert_eq!(machine.keys.len(), 2);
    assert!(machine.enabled);
}

#[test]
fn add_without_an_id_makes_a_uuid_of_version_4() {
    let fixture = Fixture::new("machines: []\n");
    let first = fixture.run(&["add", "--public-key", &key(3)]).unwrap();
    let second = fixture.run(&["add", "--public-key", &key(4)]).unwrap();
    assert_ne!(first, second);
    for id in [first.trim_end(), second.trim_end()] {
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert!(fixture.registry().find(id).is_some());
    }
}

#[test]
fn add_reads_a_key_from_a_file_in_any_spelling() {
    let spki = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let ssh = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    for text in [
        format!("ssh-ed25519 {ssh} root@web\n"),
        format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"),
        format!("{spki}\r\n"),
    ] {
        let fixture = Fixture::new("machines: []\n");
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        fs::write(elsewhere.path(), text).unwrap();
        let argument = format!("@{}", elsewhere.path().display());
        fixture
            .run(&["add", "--id", "a", "--public-key", &argument])
            .unwrap();
        let registry = fixture.registry();
        let key = registry.find("a").unwrap().keys[0];
        assert_eq!(key.public.fingerprint().to_string(), "21fe31dfa154a261");
    }
}

#[test]
fn add_takes_a_pem_block_as_an_argument() {
    let fixture = Fixture::new("machines: []\n");
    let pem = "-----BEGIN PUBLIC KEY-----\n\
               MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
               -----END PUBLIC KEY-----";
    fixture.run(&["add", "--public-key", pem]).unwrap();
    assert_eq!(fixture.registry().len(), 1);
}

#[test]
fn add_refuses_what_is_no_id() {
    let arguments = ["add", "--id", "a b", "--public-key", &key(3)];
    Fixture::new(FILE).refuses(&arguments, "--new-id: an id is 1 to 128");
}

#[test]
fn add_refuses_an_id_that_is_there() {
    let arguments = ["add", "--id", "web-1", "--public-key", &key(3)];
    Fixture::new(FILE).refuses(&arguments, "the machine web-1 exists already");
}

#[test]
fn an_id_that_differs_in_case_only_is_refused() {
    let arguments = ["add", "--id", "WEB-1", "--public-key", &key(3)];
    Fixture::new(FILE).refuses(
        &arguments,
        "differs from that of the machine web-1 in case only",
    );
}

#[test]
fn add_refuses_a_key_that_another_machine_has() {
    let arguments = ["add", "--id", "c", "--public-key", &key(1)];
    Fixture::new(FILE).refuses(&arguments, "belongs to \"web-1\"");
}

#[test]
fn add_refuses_a_key_given_twice_and_a_fifth_key() {
    let fixture = Fixture::new(FILE);
    let [three, four, five, six, seven] = [3, 4, 5, 6, 7].map(key);
    fixture.refuses(
        &["add", "--public-key", &three, "--public-key", &three],
        "listed twice",
    );
    let mut arguments = vec!["add"];
    for key in [&three, &four, &five, &six, &seven] {
        arguments.extend(["--public-key", key]);
    }
    fixture.refuses(&arguments, "has 5 items; at most 4 are allowed");
}

#[test]
fn add_refuses_a_weak_key_and_what_is_no_key() {
    let fixture = Fixture::new(FILE);
    let weak = format!("{}=", "A".repeat(43));
    fixture.refuses(
        &["add", "--public-key", &weak],
        "--public-key: it is a weak key",
    );
    fixture.refuses(
        &["add", "--public-key", "x"],
        "--public-key: it is not a public key",
    );
    fixture.refuses(
        &["add", "--public-key", "@/nowhere/key"],
        "--public-key: /nowhere/key cannot be read: ",
    );
    fixture.refuses(
        &["add", "--public-key", "@/dev/zero"],
        "--public-key: /dev/zero is a device, not a regular file",
    );
}

#[test]
fn add_refuses_a_private_key_without_repeating_it() {
    let fixture = Fixture::new(FILE);
    let private = "MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let failure = fixture.run(&["add", "--public-key", private]).unwrap_err();
    assert!(failure.to_string().contains("PRIVATE key"), "{failure}");
    assert!(!failure.to_string().contains(private));
}

#[test]
fn add_refuses_a_name_that_fits_no_header() {
    let arguments = ["add", "--name", "a\nb", "--public-key", &key(3)];
    Fixture::new(FILE).refuses(&arguments, "becomes a header");
}

#[test]
fn add_refuses_instants_that_are_none_or_in_the_wrong_order() {
    let fixture = Fixture::new(FILE);
    let key = key(3);
    fixture.refuses(
        &["add", "--expires", "soon", "--public-key", &key],
        "--expires: it must be an instant",
    );
    let arguments = [
        "add",
        "--not-before",
        "2026-01-02",
        "--expires",
        "2026-01-01",
        "--public-key",
        &key,
    ];
    fixture.refuses(&arguments, "not after not_before");
}

#[test]
fn add_needs_a_key() {
    let failure = Fixture::new(FILE).run(&["add", "--id", "c"]).unwrap_err();
    assert_eq!(failure.exit_code(), 64);
}

#[test]
fn add_leaves_a_flow_list_alone() {
    let fixture = Fixture::new("machines: [{id: a, public_keys: [\"@1\"]}]\n");
    fixture.refuses(&["add", "--public-key", &key(3)], "edit the file by hand");
}

#[test]
fn disable_changes_one_line() {
    let fixture = Fixture::new(FILE);
    assert_eq!(
        fixture.run(&["disable", "web-1"]).unwrap(),
        "web-1: disabled\n"
    );
    let line = "  - id: web-1      # the old one\n";
    let edited = fixture
        .text
        .replace(line, &format!("{line}    enabled: false\n"));
    assert_eq!(fixture.now(), edited);
    assert!(!fixture.registry().find("web-1").unwrap().enabled);
}

#[test]
fn enable_changes_one_word() {
    let fixture = Fixture::new(FILE);
    assert_eq!(
        fixture.run(&["enable", "web-2"]).unwrap(),
        "web-2: enabled\n"
    );
    let edited = fixture.text.replace("enabled: false ", "enabled: true ");
    assert_eq!(fixture.now(), edited);
}

#[test]
fn disable_then_enable_is_a_machine_as_before() {
    let fixture = Fixture::new(FILE);
    let before = fixture.registry();
    fixture.run(&["disable", "web-1"]).unwrap();
    fixture.run(&["enable", "web-1"]).unwrap();
    assert!(Change::between(&before, &fixture.registry()).is_nothing());
}

#[test]
fn what_is_so_already_is_said_and_not_written() {
    let fixture = Fixture::new(FILE);
    let modified = fixture.path().metadata().unwrap().modified().unwrap();
    assert_eq!(
        fixture.run(&["disable", "web-2"]).unwrap(),
        "web-2: disabled already\n"
    );
    assert_eq!(
        fixture.run(&["enable", "web-1"]).unwrap(),
        "web-1: enabled already\n"
    );
    assert_eq!(
        fixture.path().metadata().unwrap().modified().unwrap(),
        modified
    );
}

#[test]
fn remove_takes_the_machine_and_leaves_the_comments_around_it() {
    let fixture = Fixture::new(FILE);
    assert_eq!(
        fixture.run(&["remove", "web-2"]).unwrap(),
        "web-2: removed\n"
    );
    let (before, _) = fixture.text.split_once("  - id: web-2").unwrap();
    let tombstone = format!(
        "removed:\n  - id: \"web-2\"\n    at: \"2027-01-15T08:00:00Z\"\n    public_keys: [\"{}\"]\n",
        key(2)
    );
    let now = fixture.now();
    assert!(now.starts_with(&format!("{before}# end\n\n#")), "{now}");
    assert!(now.ends_with(&tombstone), "{now}");
}

#[test]
fn neither_id_nor_key_of_a_removed_machine_is_given_away_again() {
    let fixture = Fixture::new(FILE);
    fixture.run(&["remove", "web-2"]).unwrap();
    for (id, seed, words) in [
        (
            "web-2",
            3,
            "the machine web-2 was removed on 2027-01-15T08:00:00Z",
        ),
        ("web-3", 2, "the key was that of removed machine \"web-2\""),
    ] {
        let added = fixture.run(&["add", "--id", id, "--public-key", &key(seed)]);
        let failure = added.unwrap_err().to_string();
        assert!(failure.contains(words), "{failure}");
        assert!(failure.contains("out of `removed`"), "{failure}");
    }
    assert_eq!(fixture.registry().len(), 1);
}

#[test]
fn whoever_takes_a_tombstone_out_may_have_the_machine_back() {
    let fixture = Fixture::new(FILE);
    fixture.run(&["remove", "web-2"]).unwrap();
    let now = fixture.now();
    let (kept, _) = now.split_once("\n# Removed machines").unwrap();
    fs::write(fixture.path(), kept).unwrap();
    let add = ["add", "--id", "web-2", "--public-key", &key(2)];
    fixture.run(&add).unwrap();
    assert_eq!(fixture.registry().len(), 2);
}

#[test]
fn add_writes_rules_networks_rate_and_groups() {
    let fixture = Fixture::new("groups:\n- name: fleet\n  allow: [any /shared/**]\nmachines: []\n");
    let arguments = [
        "add",
        "--id",
        "a",
        "--public-key",
        &key(1),
        "--group",
        "fleet",
        "--allow",
        "read /v1/a/*",
        "--allow",
        "LIST /v1/a",
        "--cidr",
        "10.0.0.0/8",
        "--per-minute",
        "60",
    ];
    fixture.run(&arguments).unwrap();
    let shown = fixture.run(&["show", "a"]).unwrap();
    for line in [
        "allow       read /v1/a/*\n",
        "allow       LIST /v1/a\n",
        "allow       any /shared/**  (group fleet)\n",
        "cidr        10.0.0.0/8\n",
        "rate        60 a minute\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let listed = fixture.run(&["list"]).unwrap();
    assert!(listed.contains("1     allow,cidrs,rate\n"), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&fixture.run(&["show", "a", "--json"]).unwrap()).unwrap();
    assert_eq!(json["allow"][2]["group"], "fleet");
    assert_eq!(json["per_minute"], 60);
}

#[test]
fn add_refuses_rules_networks_rates_and_groups_that_are_none() {
    let fixture = Fixture::new(FILE);
    for (option, value, words) in [
        ("--allow", "get /a", "--allow: it must begin with any"),
        (
            "--cidr",
            "10.0.0.1/8",
            "--cidr: 10.0.0.1/8 names an address inside",
        ),
        (
            "--per-minute",
            "0",
            "--per-minute: it must be between 1 and",
        ),
        ("--group", "fleet", "there is no group \"fleet\""),
    ] {
        fixture.refuses(&["add", "--public-key", &key(3), option, value], words);
    }
}

#[test]
fn rotate_adds_the_new_key_and_ends_the_old_one() {
    let fixture = Fixture::new(FILE);
    let said = fixture
        .run(&["rotate", "web-1", "--new-key", &key(3), "--overlap", "12h"])
        .unwrap();
    assert!(
        said.contains("is good until 2027-01-15T20:00:00Z\n"),
        "{said}"
    );
    let registry = fixture.registry();
    let [old, new] = &registry.find("web-1").unwrap().keys[..] else {
        unreachable!()
    };
    assert_eq!(
        (old.validity.not_before(), old.validity.not_after()),
        (None, Some(NOW + 43_200))
    );
    assert_eq!(new.validity, Validity::ALWAYS);
    let before = format!("public_keys: [\"{}\"]", key(1));
    let after = format!(
        "public_keys: [{{ key: \"{}\", not_after: \"2027-01-15T20:00:00Z\" }}, \"{}\"]",
        key(1),
        key(3)
    );
    assert_eq!(fixture.now(), fixture.text.replace(&before, &after));
}

#[test]
fn rotate_again_leaves_an_earlier_end_alone() {
    let fixture = Fixture::new(FILE);
    fixture
        .run(&["rotate", "web-2", "--new-key", &key(3), "--overlap", "1d"])
        .unwrap();
    fixture
        .run(&["rotate", "web-2", "--new-key", &key(4), "--overlap", "2d"])
        .unwrap();
    let registry = fixture.registry();
    let ends: Vec<_> = registry
        .find("web-2")
        .unwrap()
        .keys
        .iter()
        .map(|key| key.validity.not_after())
        .collect();
    assert_eq!(ends, [Some(NOW + 86_400), Some(NOW + 172_800), None]);
    assert!(fixture.now().contains("# rotation") && fixture.now().contains("# end"));
}

#[test]
fn rotate_gives_the_new_key_a_beginning() {
    let fixture = Fixture::new(FILE);
    let arguments = [
        "rotate",
        "web-1",
        "--new-key",
        &key(3),
        "--not-before",
        "2027-01-16",
    ];
    fixture.run(&arguments).unwrap();
    let registry = fixture.registry();
    let new = registry.find("web-1").unwrap().keys[1];
    assert_eq!(new.validity.not_before(), Some(1_800_057_600));
}

#[test]
fn rotate_leaves_no_time_between_the_old_keys_and_the_new_one() {
    let fixture = Fixture::new(FILE);
    let new = key(3);
    let rotate = ["rotate", "web-1", "--new-key", &new];
    // The old key is good until 2027-01-16T08:00:00Z, included.
    let late = ["--overlap", "1d", "--not-before", "2027-01-16T08:00:02Z"];
    fixture.refuses(&[&rotate[..], &late].concat(), "no valid key");
    let in_time = ["--overlap", "1d", "--not-before", "2027-01-16T08:00:01Z"];
    fixture.run(&[&rotate[..], &in_time].concat()).unwrap();
}

#[test]
fn help_shows_no_backslashes() {
    for subcommand in Cli::command().get_subcommands() {
        for argument in subcommand.get_arguments() {
            let help = argument.get_help().map(ToString::to_string);
            assert!(!help.unwrap_or_default().contains('\\'), "{argument}");
        }
    }
}

#[test]
fn rotate_refuses_what_it_cannot_do() {
    let fixture = Fixture::new(FILE);
    fixture.refuses(
        &["rotate", "web-3", "--new-key", &key(3)],
        "there is no machine",
    );
    fixture.refuses(
        &["rotate", "web-1", "--new-key", &key(1)],
        "has this key already",
    );
    fixture.refuses(&["rotate", "web-1", "--new-key", &key(2)], "belongs to");
    fixture.refuses(
        &["rotate", "web-1", "--new-key", "x"],
        "--new-key: it is not a public key",
    );
    for seed in 3..6 {
        fixture
            .run(&["rotate", "web-1", "--new-key", &key(seed)])
            .unwrap();
    }
    let failure = fixture
        .run(&["rotate", "web-1", "--new-key", &key(6)])
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("has the greatest number of keys")
    );
}

#[test]
fn machines_can_be_removed_to_the_last_and_added_again() {
    let fixture = Fixture::new(FILE);
    fixture.run(&["remove", "web-1"]).unwrap();
    fixture.run(&["remove", "web-2"]).unwrap();
    assert!(fixture.registry().is_empty());
    fixture
        .run(&["add", "--id", "c", "--public-key", &key(3)])
        .unwrap();
    assert_eq!(fixture.registry().len(), 1);
    assert_eq!(fixture.registry().removed().len(), 2);
    assert!(fixture.now().contains("# The fleet.") && fixture.now().contains("# end"));
}

#[test]
fn a_machine_that_is_not_there_is_named() {
    let fixture = Fixture::new(FILE);
    for action in ["show", "enable", "disable", "remove"] {
        fixture.refuses(&[action, "web-3"], "there is no machine \"web-3\"");
    }
}

#[test]
fn a_list_item_inside_a_text_is_not_edited() {
    let text = "machines:\n- name: \"x\n- id: web-1\n  y\"\n  id: other\n  public_keys: [\"@1\"]\n";
    let fixture = Fixture::new(text);
    for arguments in [
        ["disable", "web-1"],
        ["disable", "other"],
        ["remove", "other"],
    ] {
        fixture.refuses(&arguments, "m.yaml:2: is not YAML");
    }
}

#[test]
fn an_edit_beside_a_key_in_another_layout_is_not_written() {
    let text = "machines:\n- id: a\n  ? enabled\n  : true\n  public_keys: [\"@1\"]\n";
    let fixture = Fixture::new(text);
    fixture.refuses(
        &["disable", "a"],
        "m.yaml:4: \"a\": enabled: is given twice",
    );
}

#[test]
fn a_registry_with_an_alias_is_not_edited() {
    let text = "machines:\n  - id: a\n    enabled: &on true\n    public_keys: [\"@1\"]\n  - id: b\n    \
                enabled: *on\n    public_keys: [\"@2\"]\n";
    let fixture = Fixture::new(text);
    fixture.refuses(
        &["disable", "a"],
        "m.yaml:3: \"a\": enabled: has an anchor (&)",
    );
    fixture.refuses(&["list"], "m.yaml:6: \"b\": enabled: is an alias (*)");
}

#[test]
fn a_registry_with_mistakes_is_not_edited() {
    let fixture = Fixture::new("machines:\n  - id: a\n  - id: b\n");
    let failure = fixture.run(&["remove", "a"]).unwrap_err();
    assert_eq!(failure.exit_code(), 78);
    fixture.refuses(&["list"], "m.yaml:3: \"b\": public_keys: ");
}

#[test]
fn a_missing_file_is_not_made() {
    let fixture = Fixture::new(FILE);
    fs::remove_file(fixture.path()).unwrap();
    let failure = fixture.run(&["add", "--public-key", &key(3)]).unwrap_err();
    assert!(
        failure.to_string().contains("echo 'machines: []' >"),
        "{failure}"
    );
    assert!(!fixture.path().exists());
}

#[test]
fn two_adds_at_once_are_both_kept() {
    let fixture = Fixture::new(FILE);
    std::thread::scope(|scope| {
        for seed in 10..18 {
            let fixture = &fixture;
            scope.spawn(move || fixture.run(&["add", "--public-key", &key(seed)]).unwrap());
        }
    });
    assert_eq!(fixture.registry().len(), 10);
}

#[test]
fn list_is_a_table_in_the_order_of_the_ids() {
    let listed = Fixture::new(FILE).run(&["list"]).unwrap();
    assert_eq!(
        listed,
        "ID     NAME      VAULT  OWNER  STATE     EXPIRES               KEYS  POLICY\n\
         web-1  prod web  -      -      enabled   2030-01-01T00:00:00Z  1     -\n\
         web-2  -         -      -      disabled  -                     1     -\n"
    );
}

#[test]
fn list_of_nothing_is_the_headings() {
    let listed = Fixture::new("machines: []\n").run(&["list"]).unwrap();
    assert_eq!(listed.lines().count(), 1);
}

#[test]
fn list_as_json_is_an_array_with_the_keys() {
    let listed = Fixture::new(FILE).run(&["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["id"], "web-1");
    assert_eq!(listed[0]["name"], "prod web");
    assert_eq!(listed[0]["vault"], serde_json::Value::Null);
    assert_eq!(listed[0]["expires"], "2030-01-01T00:00:00Z");
    assert_eq!(listed[0]["public_keys"][0]["public_key"], key(1));
    assert_eq!(listed[1]["enabled"], false);
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn show_prints_the_keys_with_their_fingerprints() {
    let fixture = Fixture::new(FILE);
    let shown = fixture.run(&["show", "web-1"]).unwrap();
    let registry = fixture.registry();
    let fingerprint = registry.find("web-1").unwrap().keys[0].public.fingerprint();
    let last = shown.lines().last().unwrap();
    assert_eq!(last, format!("key         {fingerprint} {}", key(1)));
}

#[test]
fn show_as_json_is_the_machine_of_the_list() {
    let fixture = Fixture::new(FILE);
    let [shown, listed] =
        [&["show", "--json", "web-1"][..], &["list", "--json"]].map(|arguments| {
            let text = fixture.run(arguments).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        });
    assert_eq!(shown, listed[0]);
}

fn csv(machines: std::ops::Range<u8>) -> String {
    let rows = machines.map(|n| format!("new-{n},{}\n", key(n)));
    format!("id,public_key\n{}", rows.collect::<String>())
}

#[test]
fn add_from_a_file_adds_all_and_prints_their_ids() {
    let fixture = Fixture::new(FILE);
    let from = tempfile::NamedTempFile::new().unwrap();
    fs::write(from.path(), csv(10..13)).unwrap();
    let from = from.path().to_str().unwrap();
    let added = fixture.run(&["add", "--from", from]).unwrap();
    assert_eq!(added, "new-10\nnew-11\nnew-12\n");
    let block: String = (10..13)
        .map(|n| format!("  - id: \"new-{n}\"\n    public_keys: [\"{}\"]\n", key(n)))
        .collect();
    assert_eq!(
        fixture.now(),
        fixture.text.replace("# end", &(block + "# end"))
    );
}

#[test]
fn add_from_writes_every_field_as_it_was_read() {
    let fixture = Fixture::new("groups: [{ name: g, rate: { per_minute: 5 } }]\nmachines: []\n");
    let from = tempfile::NamedTempFile::new().unwrap();
    let entry = format!(
        "- id: \"1e3\"\n  name: 'it''s \"x\": #1'\n  enabled: false\n  groups: [g]\n  \
         allow: [\"read /v1/a/**\"]\n  rate: {{ per_minute: 60 }}\n  expires: 2030-01-01\n  \
         public_keys:\n    - {{ key: \"{}\", not_after: 2029-01-01 }}\n    - {}\n",
        key(3),
        key(4)
    );
    fs::write(from.path(), entry).unwrap();
    let from = from.path().to_str().unwrap();
    assert_eq!(fixture.run(&["add", "--from", from]).unwrap(), "1e3\n");
    let registry = fixture.registry();
    let machine = registry.find("1e3").unwrap();
    assert_eq!(machine.name.as_deref(), Some("it's \"x\": #1"));
    assert!(!machine.enabled);
    assert_eq!(machine.keys.len(), 2);
    assert!(machine.keys[0].validity.not_after().is_some());
    assert_eq!(
        machine.policy.as_ref().unwrap().rate.unwrap().per_minute(),
        60
    );
    assert_eq!(&*machine.groups[0], "g");
}

#[test]
fn add_from_adds_none_if_one_has_a_mistake_and_names_each_with_its_line() {
    let fixture = Fixture::new(FILE);
    let from = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "id,public_key,groups\nok,{},\nweb-1,{},\nx,{},\ny,{},nobody\n",
        key(5),
        key(6),
        key(1),
        key(7)
    );
    fs::write(from.path(), text).unwrap();
    let from = from.path().to_str().unwrap();
    let told = fixture
        .run(&["add", "--from", from])
        .unwrap_err()
        .to_string();
    let registry = fixture.path().display().to_string();
    for line in [
        format!("{from}:3: \"web-1\": id: the id is used twice; \"web-1\" ({registry}:4)"),
        format!("{from}:4: \"x\": public_keys[0]: the key belongs to \"web-1\" ({registry}:4)"),
        format!("{from}:5: \"y\": groups[0]: there is no group \"nobody\""),
    ] {
        assert!(told.contains(&line), "{line} in {told}");
    }
    assert_eq!(told.lines().count(), 3, "{told}");
    assert_eq!(fixture.now(), fixture.text);
}

#[test]
fn add_takes_one_machine_or_a_file_and_not_both() {
    for arguments in [
        &["m", "add"][..],
        &["m", "add", "--from", "f", "--new-id", "a"],
        &["m", "add", "--from", "f", "--public-key", "k"],
        &["m", "add", "--from", "f", "--group", "g"],
    ] {
        assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
    }
    assert!(Cli::try_parse_from(["m", "add", "--from", "-"]).is_ok());
}

/// A directory of two files, of which one has the groups of the other.
fn of_two_files() -> Fixture {
    let fixture = Fixture::new(FILE);
    fs::remove_file(fixture.path()).unwrap();
    fs::create_dir(fixture.path()).unwrap();
    let web = fixture.text.replace("name: prod web", "groups: [fleet]");
    fs::write(fixture.path().join("web.yaml"), web).unwrap();
    let db = format!(
        "groups: [{{ name: fleet, rate: {{ per_minute: 9 }} }}]\nmachines:\n- id: db-1\n  \
         public_keys: [\"{}\"]\n",
        key(9)
    );
    fs::write(fixture.path().join("db.yaml"), db).unwrap();
    fixture
}

#[test]
fn an_edit_finds_the_file_of_the_machine_in_a_directory() {
    let fixture = of_two_files();
    let read = |name: &str| fs::read_to_string(fixture.path().join(name)).unwrap();
    let (web, db) = (read("web.yaml"), read("db.yaml"));
    fixture.run(&["disable", "db-1"]).unwrap();
    assert!(!fixture.registry().find("db-1").unwrap().enabled);
    fixture.run(&["enable", "db-1"]).unwrap();
    fixture
        .run(&["rotate", "db-1", "--new-key", &key(8)])
        .unwrap();
    assert_eq!(fixture.registry().find("db-1").unwrap().keys.len(), 2);
    assert_eq!(read("web.yaml"), web);
    fixture.run(&["remove", "web-1"]).unwrap();
    assert_eq!(fixture.registry().removed().len(), 1);
    assert!(read("web.yaml").contains("removed:") && !db.contains("removed:"));
    let told = fixture.run(&["disable", "nobody"]).unwrap_err().to_string();
    assert!(told.contains("there is no machine \"nobody\""), "{told}");
}

#[test]
fn in_a_directory_add_wants_the_file_that_gets_the_machine() {
    let fixture = of_two_files();
    let add = |more: &[&str]| {
        let new = key(7);
        let arguments = [&["add", "--id", "n", "--public-key", &new], more].concat();
        fixture.run(&arguments).map_err(|error| error.to_string())
    };
    assert!(add(&[]).unwrap_err().contains("--into NAME"));
    let told = add(&["--into", "none.yaml"]).unwrap_err();
    assert!(told.contains("there is no file \"none.yaml\""), "{told}");
    assert_eq!(
        add(&["--into", "db.yaml", "--group", "fleet"]).unwrap(),
        "n\n"
    );
    let told = fixture.run(&[
        "add",
        "--id",
        "n",
        "--public-key",
        &key(6),
        "--into",
        "web.yaml",
    ]);
    assert!(told.unwrap_err().to_string().contains("exists already"));
    let from = tempfile::NamedTempFile::new().unwrap();
    fs::write(from.path(), csv(20..22)).unwrap();
    let from = from.path().to_str().unwrap();
    fixture
        .run(&["add", "--into", "web.yaml", "--from", from])
        .unwrap();
    assert_eq!(fixture.registry().len(), 6);
}
