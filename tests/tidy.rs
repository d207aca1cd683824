//! The house rules that a compiler does not check: which layer may import which, what each file opens with, where links in
//! the documentation lead, how long a function may grow.
//!
//! Works on the text of the files: comments and string literals are blanked out first, so that prose is never taken for
//! code. Each test collects everything that is wrong and fails once, with a list.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and what it may import of ours, bottom to top. A layer that is not here may not exist.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("observability", &["base", "config"]),
    ("protocol", &["base"]),
    ("cluster", &["base", "protocol"]),
    ("store", &["base"]),
    ("types", &["base", "store"]),
    ("interop", &["base", "protocol", "store", "types"]),
    ("replication", &["base", "store", "types", "interop"]),
    (
        "session",
        &[
            "base",
            "config",
            "observability",
            "protocol",
            "cluster",
            "store",
            "types",
            "interop",
            "replication",
        ],
    ),
    (
        "commands",
        &[
            "base",
            "config",
            "observability",
            "protocol",
            "cluster",
            "store",
            "types",
            "interop",
            "replication",
            "session",
        ],
    ),
    (
        "server",
        &[
            "base",
            "config",
            "observability",
            "protocol",
            "cluster",
            "store",
            "types",
            "interop",
            "replication",
            "session",
            "commands",
        ],
    ),
    (
        "tools",
        &["base", "config", "protocol", "store", "types", "interop", "replication", "session", "commands"],
    ),
];

/// Files that put the layers together and so may import all of them.
const ROOTS: &[&str] = &["main.rs", "lib.rs", "cli.rs", "node.rs"];

/// Layers without a runtime: what they do depends on their arguments alone.
const WITHOUT_TOKIO: &[&str] = &["base", "config", "protocol", "store", "types", "interop"];

/// The one place for `unsafe`.
const UNSAFE_HOME: &str = "src/store/tree";

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "common", "misc"];

const FUNCTION_LINES_MAX: usize = 150;
const FUNCTION_LINES_REPORTED: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` (relative to the repository) with this extension, sorted.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is in the repository") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The path as written in the repository, with forward slashes.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the repository").to_string_lossy().replace('\\', "/")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with comments and the contents of string and character literals replaced by spaces; line breaks stay.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'r' | b'b' if !preceded_by_word(bytes, at) => literal_end(bytes, at).unwrap_or(at),
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(out).expect("only ASCII was put in, and whole characters were kept")
}

fn preceded_by_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].windows(2).position(|pair| pair == b"*/").map_or(bytes.len(), |length| at + length + 2)
}

/// End of a literal that opens with `r`, `b` or `br`; `None` if none opens here.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut open = at + usize::from(bytes[at] == b'b');
    match bytes.get(open)? {
        b'"' => return Some(string_end(bytes, open)),
        b'\'' => return char_end(bytes, open),
        b'r' => open += 1,
        _ => return None,
    }
    let hashes = bytes[open..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(open + hashes) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = open + hashes + 1;
    let length = bytes[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + length + close.len())
}

fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// End of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], open: usize) -> Option<usize> {
    if bytes.get(open + 1) == Some(&b'\\') {
        let close = bytes[open + 3..].iter().position(|&byte| byte == b'\'')?;
        return Some(open + 3 + close + 1);
    }
    let width = std::str::from_utf8(&bytes[open + 1..(open + 5).min(bytes.len())])
        .or_else(|error| std::str::from_utf8(&bytes[open + 1..open + 1 + error.valid_up_to()]))
        .ok()?
        .chars()
        .next()?
        .len_utf8();
    (bytes.get(open + 1 + width) == Some(&b'\'')).then_some(open + width + 2)
}

/// Words of `code` (identifiers and keywords) with their 1-based line.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (index + 1, word))
    })
}

/// What follows each `crate::`: a name, or the first names of a braced list.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if preceded_by_word(code.as_bytes(), at) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let first = |text: &str| -> String {
            text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => found.push((line, first(rest))),
            Some(list) => found.extend(top_level_items(list).into_iter().map(|item| (line, first(item)))),
        }
    }
    found
}

/// The comma-separated items up to the brace that closes the list.
fn top_level_items(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// The layer a file of `src/` belongs to; `None` for the roots.
fn layer(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/").expect("a file of src/");
    let first = inside.split('/').next().expect("split gives one part at least");
    (!ROOTS.contains(&inside)).then(|| first.strip_suffix(".rs").unwrap_or(first))
}

fn fail_if_any(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}\n", wrong.join("\n  "));
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        let name = name(&path);
        let Some(layer) = layer(&name) else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == layer) else {
            wrong.push(format!("{name}: no layer named {layer} is in the table of tests/tidy.rs"));
            continue;
        };
        for (line, imported) in imports(&code_only(&read(&path))) {
            let ours = LAYERS.iter().any(|(known, _)| *known == imported)
                || ROOTS.contains(&format!("{imported}.rs").as_str());
            if ours && imported != layer && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{name}:{line}: {layer} imports {imported}"));
            }
        }
    }
    fail_if_any(&wrong, "A layer imports only what stands below it:");
}

#[test]
fn the_table_of_layers_has_no_circle() {
    for (index, (layer, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            let position = LAYERS.iter().position(|(known, _)| known == below);
            assert!(position.is_some_and(|position| position < index), "{layer} may import {below}?");
        }
    }
}

#[test]
fn layers_that_must_be_repeatable_have_no_runtime() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        let name = name(&path);
        if !layer(&name).is_some_and(|layer| WITHOUT_TOKIO.contains(&layer)) {
            continue;
        }
        let code = code_only(&read(&path));
        wrong.extend(
            words(&code)
                .filter(|(_, word)| word.starts_with("tokio"))
                .map(|(line, word)| format!("{name}:{line}: {word}")),
        );
    }
    fail_if_any(&wrong, "No tokio in these layers:");
}

#[test]
fn every_file_opens_with_what_it_is() {
    let wrong: Vec<String> = ["src", "tests", "benches", "redis-compat", "fuzz/src", "fuzz/fuzz_targets"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .filter(|path| !read(path).starts_with("//! "))
        .map(|path| name(&path))
        .collect();
    fail_if_any(&wrong, "Each file opens with a `//!` line that says what it is:");
}

#[test]
fn no_file_has_an_empty_name() {
    let wrong: Vec<String> =
        ["src", "tests", "benches", "redis-compat", "fuzz/src", "fuzz/fuzz_targets", "docs"]
            .iter()
            .flat_map(|folder| ["rs", "py", "md"].map(|extension| files(folder, extension)).concat())
            .filter(|path| {
                let stem = path.file_stem().expect("a file has a name").to_string_lossy().to_lowercase();
                let folder =
                    path.parent().and_then(Path::file_name).expect("it lies in a folder").to_string_lossy();
                EMPTY_NAMES
                    .iter()
                    .any(|empty| stem == *empty || folder == *empty || stem.ends_with(&format!("_{empty}")))
            })
            .map(|path| name(&path))
            .collect();
    fail_if_any(&wrong, "A name says what is inside:");
}

#[test]
fn unsafe_stays_in_the_tree() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        let name = name(&path);
        let text = read(&path);
        let code = code_only(&text);
        let lines: Vec<&str> = text.lines().collect();
        for (line, _) in words(&code).filter(|(_, word)| *word == "unsafe") {
            let reasoned = lines[line.saturating_sub(8)..line].iter().any(|line| line.contains("// SAFETY:"));
            if !name.starts_with(UNSAFE_HOME) {
                wrong.push(format!("{name}:{line}: outside of {UNSAFE_HOME}"));
            } else if !reasoned {
                wrong.push(format!("{name}:{line}: no `// SAFETY:` above it"));
            }
        }
    }
    fail_if_any(&wrong, "`unsafe` is confined, and each use says why it holds:");
}

/// A function that is too long: its first line, its name and its number of lines. Relies on rustfmt: the closing brace
/// stands below the `fn`.
fn long_functions(code: &str, longer_than: usize) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(after) = line.trim_start().split_once("fn ").filter(|(before, _)| {
            before.split_whitespace().all(|word| {
                word.starts_with("pub") || ["const", "async", "unsafe", "super)", "in"].contains(&word)
            })
        }) else {
            continue;
        };
        let close = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
        let length = lines[index..].iter().position(|line| line.trim_end() == close).map_or(1, |at| at + 1);
        let one_line = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
        if !one_line && length > longer_than {
            let name = after.1.split(['(', '<']).next().unwrap_or_default();
            found.push((index + 1, name.to_string(), length));
        }
    }
    found
}

#[test]
fn functions_stay_readable() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in files("src", "rs") {
        for (line, function, length) in long_functions(&code_only(&read(&path)), FUNCTION_LINES_REPORTED) {
            let text = format!("{}:{line}: {function} has {length} lines", name(&path));
            count += 1;
            eprintln!("{text}");
            if length > FUNCTION_LINES_MAX {
                wrong.push(text);
            }
        }
    }
    eprintln!("{count} functions have more than {FUNCTION_LINES_REPORTED} lines");
    fail_if_any(&wrong, "A function is a screen; a table of twice that is the bound:");
}

/// Link targets in Markdown: `[text](target)`, outside of code.
fn links(markdown: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            found.push((index + 1, rest.split(')').next().unwrap_or(rest)));
        }
    }
    found
}

/// The anchor a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

fn has_anchor(markdown: &str, wanted: &str) -> bool {
    markdown.lines().any(|line| line.starts_with('#') && anchor(line) == wanted)
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in [vec![root().join("README.md")], files("docs", "md")].concat() {
        let text = read(&path);
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            let folder = path.parent().expect("a file lies in a folder");
            let leads_to = if file.is_empty() { path.clone() } else { folder.join(file) };
            let found = leads_to.exists()
                && (wanted.is_empty() || (leads_to.is_file() && has_anchor(&read(&leads_to), wanted)));
            if !found {
                wrong.push(format!("{}:{line}: {target}", name(&path)));
            }
        }
    }
    fail_if_any(&wrong, "Links that lead nowhere:");
}

#[test]
fn every_page_is_linked_from_another() {
    let pages = [vec![root().join("README.md")], files("docs", "md")].concat();
    let linked: Vec<PathBuf> = pages
        .iter()
        .flat_map(|page| {
            let folder = page.parent().expect("a file lies in a folder").to_path_buf();
            let text = read(page);
            links(&text)
                .into_iter()
                .filter_map(|(_, target)| folder.join(target.split('#').next()?).canonicalize().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    let wrong: Vec<String> = pages[1..]
        .iter()
        .filter(|page| !linked.contains(&page.canonicalize().expect("it was listed")))
        .map(|page| name(page))
        .collect();
    fail_if_any(&wrong, "Pages nobody finds:");
}

#[test]
fn code_is_told_from_prose() {
    let check = |text: &str, expect: &str| assert_eq!(code_only(text), expect);
    check("a // crate::b\nc", "a            \nc");
    check("f(\"// no\", 'x', '\\'', b\"\\\"\")", "f(       ,    ,     ,      )");
    check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    check("r#\"a\"b\"# + 1", "         + 1");
}

#[test]
fn imports_are_read_from_paths_and_lists() {
    let code = "use crate::base::{ids, number};\nuse crate::{store::{Row, View}, types};\nfn f() { crate::server::g() }";
    let found = imports(code);
    let expect = [(1, "base"), (2, "store"), (2, "types"), (3, "server")];
    assert_eq!(found, expect.map(|(line, name)| (line, name.to_string())));
}

#[test]
fn long_functions_are_measured() {
    let code = "impl A {\n    pub fn long(&self) {\n        a;\n        b;\n    }\n    fn short() {}\n}\n";
    assert_eq!(long_functions(code, 3), [(2, "long".to_string(), 4)]);
    assert_eq!(long_functions(code, 4), []);
}
