//! Every example of README.md and docs/ works as it stands, and answers what is shown under it; what is
//! said of `make`, paths, links, functions and settings is so, too.
//!
//! The blocks of a page run in order, in a database `shop` of the page's own, each in a session of its own.
//! A comment in the Markdown, just before a block, says what it needs besides:
//!
//! * `<!-- run as: ROLE -->`: till, manager, maintenance or monitor; the superuser, if nothing is said
//! * `<!-- first: SQL -->`: what has to be there that the reader has anyway
//! * `<!-- not run: WHY -->`: it takes two servers, or a restart; `NOT_RUN` counts them
//!
//! An answer in JSON is compared but for what differs each time. An example that shows no answer has to come
//! off: `"acquired": false` needs showing.

mod answers;
pub mod pages;

use std::collections::BTreeSet;

use postgres::{Client, NoTls};

use crate::harness::{Ask, Cluster};
use crate::worker_watch::RARELY;
use answers::Shown;
use pages::{Block, Page, repository};

/// How many blocks of SQL are marked as not run, and how many answers are shown at least.
const NOT_RUN: usize = 2;
const ANSWERS: usize = 12;

/// A shop in which nothing has been done yet, for the examples of one page.
fn open_shop(cluster: &Cluster) {
    let mut admin = cluster.connect("postgres");
    for command in ["DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop"] {
        admin.batch_execute(command).unwrap();
    }
    cluster
        .connect("shop")
        .batch_execute("CREATE EXTENSION softlock")
        .unwrap();
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(&[RARELY, "max_wal_senders = 0", "wal_level = minimal"]);
    let roles = "CREATE ROLE till LOGIN; CREATE ROLE manager LOGIN;
                 CREATE ROLE maintenance LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor";
    cluster.connect("postgres").batch_execute(roles).unwrap();
    cluster
}

/// Runs a block, and tells how many answers it has shown.
fn run(cluster: &Cluster, block: &Block) -> usize {
    let connect = |user: &str| -> Client {
        let mut config = cluster.config("shop");
        let client = config.user(user).connect(NoTls);
        client.unwrap_or_else(|error| panic!("{}: {error:?}", block.place))
    };
    for first in block.notes("first") {
        let done = connect("postgres").batch_execute(first);
        done.unwrap_or_else(|error| panic!("{}: {first}: {error:?}", block.place));
    }
    let role = block.notes("run as").next().unwrap_or("postgres");
    let mut client = connect(role);
    let mut answers = 0;
    for statement in answers::statements(&block.text) {
        let shown = Shown::of(&statement.comments);
        answers += usize::from(shown.is_some());
        if let Err(problem) = answers::check(&mut client, &statement.sql, shown) {
            panic!("{}: {}\n{problem}", block.place, statement.sql);
        }
    }
    answers
}

#[test]
fn every_example_in_sql_works_and_answers_what_is_shown() {
    let cluster = cluster();
    let (mut left_out, mut answers) = (Vec::new(), 0);
    for page in Page::all() {
        open_shop(&cluster);
        for block in page.blocks("sql") {
            match block.notes("not run").next() {
                Some(why) => {
                    assert!(why.len() > 10, "{}: why not?", block.place);
                    left_out.push(block.place.clone());
                }
                None => answers += run(&cluster, &block),
            }
        }
    }
    assert_eq!(left_out.len(), NOT_RUN, "{left_out:?}");
    assert!(answers >= ANSWERS, "{answers} answers are shown");
}

#[test]
fn what_a_reader_is_told_to_run_in_a_shell_is_there() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).unwrap();
    let (mut targets, mut paths) = (0, 0);
    for page in Page::all() {
        for target in page.make_targets() {
            let rule = format!("\n{target}:");
            assert!(
                makefile.contains(&rule),
                "{}: make {target} is not there",
                page.name
            );
            targets += 1;
        }
        for block in page.blocks("sh") {
            for path in pages::paths(&block.text) {
                let there = repository().join(&path).exists();
                assert!(there, "{}: {path} is not there", block.place);
                paths += 1;
            }
        }
    }
    assert!(
        targets >= 10 && paths >= 3,
        "{targets} targets, {paths} paths"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let (mut links, mut broken) = (0, Vec::new());
    for page in Page::every_one() {
        for link in page.links() {
            links += 1;
            if let Err(problem) = page.follow(&link) {
                broken.push(format!("{}: {link}: {problem}", page.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(links >= 50, "{links} links");
}

#[test]
fn the_reference_has_every_function_with_its_arguments_every_view_and_every_setting_with_its_default()
 {
    let cluster = cluster();
    open_shop(&cluster);
    let mut client = cluster.connect("shop");
    let reference = Page::read("docs/reference.md").text;
    let mut missing = BTreeSet::new();
    let mut look_for = |text: String| {
        if !reference.contains(&text) {
            missing.insert(text);
        }
    };
    let objects = "
        SELECT format('`%s(%s)`', p.proname,
                      array_to_string(p.proargnames[1:p.pronargs], ', '))
        FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
        WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'softlock')
          AND p.pronamespace <> 'softlock'::regnamespace
        UNION ALL
        SELECT format('`%s`', c.relname)
        FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
        WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'softlock')
          AND c.relkind = 'v'";
    let objects = client.query(objects, &[]).unwrap();
    assert!(objects.len() >= 20, "{}", objects.len());
    for row in objects {
        look_for(row.get(0));
    }
    let settings = "
        SELECT format('| `%s` | %s | %s |', name,
                      CASE WHEN boot_val = '' THEN 'empty' ELSE concat_ws(' ', boot_val, unit) END,
                      CASE context WHEN 'sighup' THEN 'configuration, reload' WHEN 'user' THEN 'anyone'
                                   ELSE context END)
        FROM pg_settings WHERE name LIKE 'softlock.%'";
    // What a library defines is known to a session in which it is loaded.
    client.ask("SELECT softlock_acquire('kit:1', 'anna')");
    let settings = client.query(settings, &[]).unwrap();
    assert!(settings.len() >= 12, "{}", settings.len());
    for row in settings {
        look_for(row.get(0));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
