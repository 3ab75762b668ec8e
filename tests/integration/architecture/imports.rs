//! Who imports whom, read from the sources: files as nodes, and an import counts for the file that
//! defines what is imported, however many modules export it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The crates of the workspace: the name that imports use, and where the sources are.
pub const CRATES: [(&str, &str); 3] = [
    ("countersign", "src"),
    ("countersign_core", "crates/countersign-core/src"),
    ("countersign_client", "crates/countersign-client/src"),
];

/// One source file: a module, or a module with those that are written out inside it.
#[derive(Default)]
pub struct SourceFile {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
    /// Whether the whole file is for tests only.
    pub test: bool,
    krate: &'static str,
    children: HashMap<String, usize>,
    parent: Option<usize>,
    /// Names that items of this file define.
    defines: BTreeSet<String>,
    /// Names that a `use` brings into scope, and the path that each stands for.
    bound: HashMap<String, Vec<String>>,
    /// Paths that the code names, imports included, exports for others not.
    named: BTreeSet<Vec<String>>,
    /// Types that are declared here.
    pub types: Vec<String>,
}

impl SourceFile {
    /// The module directly below the crate whose sources are in `folder`; none for other crates.
    pub fn module_of(&self, folder: &str) -> Option<&str> {
        let first = self.path.strip_prefix(folder)?.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Whether code outside tests names a crate.
    pub fn names_crate(&self, name: &str) -> bool {
        self.named.iter().any(|path| path[0] == name)
    }

    /// The text up to the unit tests at its end.
    pub fn text_without_tests(&self) -> &str {
        let end = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\n#[allow("];
        let end = end.iter().find_map(|start| self.text.find(start));
        &self.text[..end.unwrap_or(self.text.len())]
    }

    /// The same without comments.
    pub fn code(&self) -> String {
        let lines = self.text_without_tests().lines();
        lines
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// The source files, and who imports whom.
pub struct Imports {
    pub files: Vec<SourceFile>,
    roots: HashMap<&'static str, usize>,
}

impl Imports {
    /// Reads the sources below `root`, the repository.
    pub fn read(root: &Path) -> Imports {
        let mut imports = Imports {
            files: Vec::new(),
            roots: HashMap::new(),
        };
        for (krate, folder) in CRATES {
            let lib = root.join(folder).join("lib.rs");
            if lib.exists() {
                let index = imports.add(root, &lib, krate, None, false);
                imports.roots.insert(krate, index);
            }
        }
        assert!(imports.files.len() > 20, "the sources were found");
        imports
    }

    fn add(
        &mut self,
        root: &Path,
        path: &Path,
        krate: &'static str,
        parent: Option<usize>,
        test: bool,
    ) -> usize {
        let text = fs::read_to_string(path).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        let index = self.files.len();
        let mut reader = Reader {
            file: SourceFile::default(),
            modules: Vec::new(),
        };
        reader.file.path = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        reader.file.krate = krate;
        reader.file.parent = parent;
        reader.file.test = test;
        reader.visit_file(&syntax);
        let Reader { mut file, modules } = reader;
        file.text = text;
        self.files.push(file);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let folder = match stem {
            "lib" | "mod" => folder.to_owned(),
            _ => folder.join(stem),
        };
        for (name, only_tests) in modules {
            let child = [format!("{name}.rs"), format!("{name}/mod.rs")]
                .map(|file| folder.join(file))
                .into_iter()
                .find(|file: &PathBuf| file.exists())
                .unwrap_or_else(|| panic!("{}: mod {name} has no file", path.display()));
            let child = self.add(root, &child, krate, Some(index), test || only_tests);
            self.files[index].children.insert(name, child);
        }
        index
    }

    /// The files that each file names something of, tests left out. A module's file may name what
    /// is in the files below it: that is what it is made of, and no edge.
    pub fn edges(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut edges = BTreeMap::new();
        for (from, file) in self.files.iter().enumerate().filter(|(_, file)| !file.test) {
            let mut to: BTreeSet<usize> = file
                .named
                .iter()
                .filter_map(|path| self.defining(from, path, 0))
                .collect();
            to.remove(&from);
            to.retain(|to| !self.is_part_of(*to, from));
            edges.insert(from, to);
        }
        edges
    }

    /// Whether `part` is a module somewhere below `whole`.
    fn is_part_of(&self, part: usize, whole: usize) -> bool {
        let mut at = part;
        while let Some(parent) = self.files[at].parent {
            if parent == whole {
                return true;
            }
            at = parent;
        }
        false
    }

    /// The file that defines what `path` names in file `from`; none for other crates.
    fn defining(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        assert!(
            depth < 32,
            "{}: {path:?} leads in a circle",
            self.files[from].path
        );
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => self.roots[self.files[from].krate],
            "self" => from,
            "super" => self.files[from].parent?,
            name => {
                let file = &self.files[from];
                // `use a::a` binds a name that its own path begins with: a crate.
                let bound = file.bound.get(name).is_some_and(|path| path[0] != name);
                if bound || file.children.contains_key(name) {
                    rest = path;
                    from
                } else if file.defines.contains(name) {
                    return Some(from);
                } else {
                    *self.roots.get(name)?
                }
            }
        };
        while let Some((name, after)) = rest.split_first() {
            let file = &self.files[at];
            if name == "super" {
                at = file.parent?;
            } else if let Some(child) = file.children.get(name) {
                at = *child;
            } else if file.defines.contains(name) {
                return Some(at);
            } else if let Some(stands_for) = file.bound.get(name) {
                let mut longer = stands_for.clone();
                longer.extend_from_slice(after);
                return self.defining(at, &longer, depth + 1);
            } else {
                return Some(at);
            }
            rest = after;
        }
        Some(at)
    }

    /// Groups of files that import one another in a circle.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let edges = self.edges();
        let reach: HashMap<usize, BTreeSet<usize>> = edges
            .keys()
            .map(|start| (*start, reachable(&edges, *start)))
            .collect();
        let mut circles = BTreeSet::new();
        for (file, reached) in &reach {
            if reached.contains(file) {
                let with: BTreeSet<usize> = reached
                    .iter()
                    .filter(|other| reach.get(other).is_some_and(|back| back.contains(file)))
                    .copied()
                    .collect();
                circles.insert(with);
            }
        }
        circles
            .into_iter()
            .map(|circle| {
                circle
                    .into_iter()
                    .map(|file| &*self.files[file].path)
                    .collect()
            })
            .collect()
    }
}

/// What can be reached from `start` in one step or more.
fn reachable(edges: &BTreeMap<usize, BTreeSet<usize>>, start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next = vec![start];
    while let Some(file) = next.pop() {
        for to in edges.get(&file).into_iter().flatten() {
            if seen.insert(*to) {
                next.push(*to);
            }
        }
    }
    seen
}

struct Reader {
    file: SourceFile,
    /// Modules in files of their own, and whether they are for tests only.
    modules: Vec<(String, bool)>,
}

impl Reader {
    fn import(&mut self, tree: &UseTree, path: &mut Vec<String>, exported: bool) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.import(&inner.tree, path, exported);
                path.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path, exported);
                }
            }
            UseTree::Name(name) => self.bind(
                &name.ident.to_string(),
                &name.ident.to_string(),
                path,
                exported,
            ),
            UseTree::Rename(name) => {
                self.bind(
                    &name.rename.to_string(),
                    &name.ident.to_string(),
                    path,
                    exported,
                );
            }
            UseTree::Glob(_) => {
                self.file.named.insert(path.clone());
            }
        }
    }

    fn bind(&mut self, name: &str, what: &str, path: &[String], exported: bool) {
        let mut path = path.to_vec();
        if what != "self" {
            path.push(what.to_owned());
        }
        let name = if name == "self" {
            path.last().cloned().unwrap_or_default()
        } else {
            name.to_owned()
        };
        if !exported {
            self.file.named.insert(path.clone());
        }
        self.file.bound.insert(name, path);
    }
}

fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|ident| ident == "test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(i) => &i.attrs,
            Item::Enum(i) => &i.attrs,
            Item::Fn(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Macro(i) => &i.attrs,
            Item::Mod(i) => &i.attrs,
            Item::Static(i) => &i.attrs,
            Item::Struct(i) => &i.attrs,
            Item::Trait(i) => &i.attrs,
            Item::Type(i) => &i.attrs,
            Item::Union(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            _ => &Vec::new(),
        };
        let test = only_for_tests(attributes);
        if let Item::Mod(module) = item
            && module.content.is_none()
        {
            self.modules.push((module.ident.to_string(), test));
            return;
        }
        if test {
            return;
        }
        let (name, is_type) = match item {
            Item::Const(i) => (Some(&i.ident), false),
            Item::Enum(i) => (Some(&i.ident), true),
            Item::Fn(i) => (Some(&i.sig.ident), false),
            Item::Macro(i) => (i.ident.as_ref(), false),
            Item::Mod(i) => (Some(&i.ident), false),
            Item::Static(i) => (Some(&i.ident), false),
            Item::Struct(i) => (Some(&i.ident), true),
            Item::Trait(i) => (Some(&i.ident), true),
            Item::Type(i) => (Some(&i.ident), true),
            Item::Union(i) => (Some(&i.ident), true),
            _ => (None, false),
        };
        if let Some(name) = name {
            self.file.defines.insert(name.to_string());
            if is_type {
                self.file.types.push(name.to_string());
            }
        }
        if let Item::Use(import) = item {
            let exported = !matches!(import.vis, Visibility::Inherited);
            self.import(&import.tree, &mut Vec::new(), exported);
        }
        visit::visit_item(self, item);
    }

    /// `pub(in crate::a)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.file.named.insert(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.tokens(invoked.tokens.clone());
        visit::visit_macro(self, invoked);
    }
}

impl Reader {
    /// What is inside a macro is no syntax yet; what looks like a path counts as one.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.finish(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.finish(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.finish(&mut path);
                    colons = 0;
                }
            }
        }
        self.finish(&mut path);
    }

    fn finish(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.file.named.insert(std::mem::take(path));
        }
    }
}
