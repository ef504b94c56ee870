//! The pages of the documentation, as far as the tests have to understand them.

use std::fs;
use std::path::{Path, PathBuf};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page in Markdown.
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub text: String,
}

/// A block of code on a page, and what the comments just before it say.
pub struct Block {
    /// The page, and the line of its first line.
    pub place: String,
    pub text: String,
    comments: Vec<String>,
}

impl Block {
    /// What comments of the form `<!-- KEY: … -->` say.
    pub fn notes(&self, key: &str) -> impl Iterator<Item = &str> {
        let notes = self.comments.iter();
        notes.filter_map(move |note| Some(note.strip_prefix(key)?.strip_prefix(':')?.trim()))
    }
}

impl Page {
    pub fn read(name: &str) -> Page {
        let text = fs::read_to_string(repository().join(name));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        Page {
            name: name.into(),
            text,
        }
    }

    /// Those with examples.
    pub fn all() -> Vec<Page> {
        let docs = fs::read_dir(repository().join("docs")).unwrap();
        let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.ends_with(".md"));
        let mut names: Vec<_> = names.map(|name| format!("docs/{name}")).collect();
        names.push("README.md".into());
        names.sort();
        assert!(names.len() >= 6, "{names:?}");
        names.iter().map(|name| Page::read(name)).collect()
    }

    /// Those and the rest.
    pub fn every_one() -> Vec<Page> {
        let more = [
            "RELEASING.md",
            "CHANGELOG.md",
            "tests/GUARANTEES.md",
            "benches/README.md",
        ];
        let mut pages = Page::all();
        pages.extend(more.map(Page::read));
        pages
    }

    /// The blocks of code in a language, in order, also those within a list.
    pub fn blocks(&self, language: &str) -> Vec<Block> {
        let fence = format!("```{language}");
        let mut lines = self.text.lines().map(str::trim_end).enumerate();
        let (mut blocks, mut comments) = (Vec::new(), Vec::new());
        while let Some((at, line)) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim_start();
            if let Some(comment) = line.strip_prefix("<!--") {
                let mut comment = comment.to_owned();
                while !comment.ends_with("-->") {
                    let (_, more) = lines.next().expect("a comment ends");
                    comment = comment + "\n" + more;
                }
                comments.push(comment.trim_end_matches("-->").trim().to_owned());
            } else if line.starts_with("```") {
                let inside = lines
                    .by_ref()
                    .map(|(_, line)| line.get(indent..).unwrap_or(""));
                let text: Vec<_> = inside.take_while(|line| *line != "```").collect();
                let (text, comments) = (text.join("\n"), std::mem::take(&mut comments));
                let place = format!("{}:{}", self.name, at + 2);
                if line == fence {
                    blocks.push(Block {
                        place,
                        text,
                        comments,
                    });
                }
            } else if !line.is_empty() {
                let none = comments.is_empty();
                assert!(none, "{}:{}: a comment of no block", self.name, at + 1);
            }
        }
        let fences = self.text.matches(&fence).count();
        assert_eq!(blocks.len(), fences, "{}: {fence} elsewhere", self.name);
        blocks
    }

    /// What follows a `make` in a block for a shell or in code within the text.
    pub fn make_targets(&self) -> Vec<String> {
        let pieces = self.text.split('`').flat_map(str::lines);
        let commands = pieces.filter_map(|piece| piece.trim_start().strip_prefix("make "));
        let targets = commands.map(|rest| {
            let end = |c: char| !(c.is_ascii_lowercase() || c == '-');
            rest.split(end).next().unwrap_or("").to_owned()
        });
        targets.filter(|target| !target.is_empty()).collect()
    }

    /// Where its links within the repository lead.
    pub fn links(&self) -> Vec<String> {
        let links = self.text.split("](").skip(1);
        let links = links.map(|rest| rest.split(')').next().unwrap_or("").to_owned());
        links.filter(|link| !link.starts_with("http")).collect()
    }

    /// Whether the file is there, and has such a heading.
    pub fn follow(&self, link: &str) -> Result<(), String> {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let here = repository().join(&self.name);
        let target: PathBuf = match path {
            "" => here,
            path => here.parent().expect("a directory").join(path),
        };
        if !target.exists() {
            return Err(format!("{target:?} is not there"));
        }
        if anchor.is_empty() {
            return Ok(());
        }
        let text = fs::read_to_string(&target).map_err(|error| error.to_string())?;
        match headings(&text).any(|heading| heading == anchor) {
            true => Ok(()),
            false => Err("no such heading".into()),
        }
    }
}

/// The anchors of a page's headings, as they are made where it is rendered.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        });
        kept.collect()
    })
}

/// Paths in the repository that a text names.
pub fn paths(text: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = text.split(move |c| !part(c));
    let ours = ["tests/", "docs/", "benches/", "debian/", "src/", "sql/"];
    let words = words.filter(|word| ours.iter().any(|dir| word.starts_with(dir)));
    words.map(str::to_owned).collect()
}
