//! What a source file says, as far as the rules care. Items under `#[cfg(test)]` say nothing.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::ops::RangeInclusive;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A file and what it says.
pub struct Source {
    /// Relative to the package, such as `src/proxy/mod.rs`.
    pub file: String,
    /// `["proxy", "context"]`; the crate's root is empty, `main.rs` is `["main"]`.
    pub module: Vec<String>,
    /// Paths that are named in code, `use` items and macros.
    pub references: Vec<Reference>,
    /// Every identifier with its line.
    pub words: Vec<(String, usize)>,
    /// `static` items; those with `#[global_allocator]` are left out.
    pub statics: Vec<(String, usize)>,
    /// Functions with a body and methods: name, line, lines of code.
    pub functions: Vec<(String, usize, usize)>,
    /// Modules that are declared here and live in another file; true: only for tests.
    pub children: Vec<(String, bool)>,
    /// Lines that are neither empty nor a comment.
    pub code_lines: usize,
}

/// A path that is named somewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Segments; of a path inside the crate those after `crate`, with `self` and `super` resolved.
    pub path: Vec<String>,
    /// Whether the path leads into this crate.
    pub internal: bool,
    /// Where it stands.
    pub line: usize,
}

impl Source {
    /// Reads a file; `text` has to be valid Rust.
    pub fn new(file: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file} is not Rust: {error}"));
        let module = module_of(file);
        let mut reader = Reader {
            source: Self {
                file: file.to_owned(),
                module: module.clone(),
                references: Vec::new(),
                words: Vec::new(),
                statics: Vec::new(),
                functions: Vec::new(),
                children: Vec::new(),
                code_lines: 0,
            },
            module,
            code: code_lines(text),
        };
        reader.visit_file(&syntax);
        reader.source.code_lines = reader.code.iter().filter(|is_code| **is_code).count();
        reader.source
    }
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if module == ["lib"] || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// For each line, from line 1 at index 0: whether there is code on it.
fn code_lines(text: &str) -> Vec<bool> {
    text.lines().map(str::trim).map(|line| !line.is_empty() && !line.starts_with("//")).collect()
}

struct Reader {
    source: Source,
    /// Where the visitor is, inline modules included.
    module: Vec<String>,
    code: Vec<bool>,
}

impl Reader {
    fn skip_test_code(&mut self, lines: &RangeInclusive<usize>) {
        self.code[lines.start() - 1..*lines.end()].fill(false);
    }

    fn function(&mut self, name: &syn::Ident, lines: RangeInclusive<usize>) {
        let start = *lines.start();
        let count = self.code[start - 1..*lines.end()].iter().filter(|is_code| **is_code).count();
        self.source.functions.push((name.to_string(), start, count));
    }

    /// `segments` as written: resolved here, unless it is a single name, which leads nowhere else.
    fn refer(&mut self, segments: &[String], line: usize) {
        let (mut path, rest) = match segments.first().map(String::as_str) {
            Some("crate" | "tollgate") => (Vec::new(), &segments[1..]),
            Some("self") => (self.module.clone(), &segments[1..]),
            Some("super") => (self.module.clone(), segments),
            Some(_) if segments.len() > 1 => {
                let path = segments.to_vec();
                self.source.references.push(Reference { path, internal: false, line });
                return;
            }
            _ => return,
        };
        for segment in rest {
            if segment == "super" {
                path.pop();
            } else {
                path.push(segment.clone());
            }
        }
        self.source.references.push(Reference { path, internal: true, line });
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        let depth = prefix.len();
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix);
            }
            syn::UseTree::Name(name) => self.use_leaf(prefix, name.ident.to_string(), name.span()),
            syn::UseTree::Rename(rename) => self.use_leaf(prefix, rename.ident.to_string(), rename.span()),
            syn::UseTree::Glob(glob) => self.use_leaf(prefix, "*".to_owned(), glob.span()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, prefix)),
        }
        prefix.truncate(depth);
    }

    fn use_leaf(&mut self, prefix: &mut Vec<String>, leaf: String, span: proc_macro2::Span) {
        if prefix.is_empty() && leaf.starts_with("pingora") {
            // `use pingora_core;` has one segment and still brings the crate in.
            prefix.push(leaf.clone());
        }
        prefix.push(leaf);
        self.refer(prefix, span.start().line);
    }

    /// Tokens that are not parsed, inside macros: paths are put together by hand.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut path = prefix.to_vec();
        let is = |index: usize, sign: char| matches!(tokens.get(index), Some(TokenTree::Punct(p)) if p.as_char() == sign);
        for (index, token) in tokens.iter().enumerate() {
            let continues = is(index + 1, ':') && is(index + 2, ':');
            match token {
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    self.source.words.push((word.to_string(), line));
                    if word == "static" && !(index > 0 && is(index - 1, '\'')) {
                        self.source.statics.push((following_name(&tokens[index + 1..]), line));
                    }
                    path.push(word.to_string());
                    if !continues {
                        self.refer(&path, line);
                        path = prefix.to_vec();
                    }
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => {}
                TokenTree::Group(group) => {
                    let is_use_group =
                        group.delimiter() == Delimiter::Brace && index > 1 && is(index - 1, ':');
                    let inner = if is_use_group { path.clone() } else { Vec::new() };
                    self.tokens(group.stream(), &inner);
                    path = prefix.to_vec();
                }
                TokenTree::Literal(literal) => self.path_in_text(literal),
                TokenTree::Punct(_) => path = prefix.to_vec(),
            }
        }
    }

    /// `#[serde(with = "crate::values::text")]` names a path as well.
    fn path_in_text(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        let text = text.trim_matches('"');
        if text.starts_with("crate::") || text.starts_with("super::") {
            let segments: Vec<String> = text.split("::").map(str::to_owned).collect();
            self.refer(&segments, literal.span().start().line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test_only(attributes(item)) {
            if let syn::Item::Mod(syn::ItemMod { ident, content: None, .. }) = item {
                self.source.children.push((ident.to_string(), true));
            }
            self.skip_test_code(&lines(item));
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        if is_test_only(&method.attrs) {
            self.skip_test_code(&lines(method));
            return;
        }
        visit::visit_impl_item_fn(self, method);
        self.function(&method.sig.ident, method.sig.span().start().line..=method.span().end().line);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        visit::visit_item_fn(self, function);
        self.function(&function.sig.ident, function.sig.span().start().line..=function.span().end().line);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_none() {
            self.source.children.push((module.ident.to_string(), false));
        }
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("global_allocator")) {
            self.source.statics.push((item.ident.to_string(), item.ident.span().start().line));
        }
        visit::visit_item_static(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
        visit::visit_item_use(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.refer(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone(), &[]);
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.source.words.push((ident.to_string(), ident.span().start().line));
    }
}

fn following_name(tokens: &[TokenTree]) -> String {
    let name = tokens.iter().find_map(|token| match token {
        TokenTree::Ident(word) if word != "mut" && word != "ref" => Some(word.to_string()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn lines(item: &impl Spanned) -> RangeInclusive<usize> {
    item.span().start().line..=item.span().end().line
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        condition == "test" || condition.starts_with("all(test,")
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
