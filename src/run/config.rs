//! `kbr.toml`: named clusters and stores, found upward from the runbook's folder.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a `kbr.toml` says; empty without one, since inline addresses work without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: Option<PathBuf>,
    pub clusters: BTreeMap<String, ClusterConfig>,
    pub stores: BTreeMap<String, StoreConfig>,
    pub rehearse: RehearseConfig,
}

/// `[clusters.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `host:port`, at least one.
    pub bootstrap: Vec<String>,
    /// Where it is written: `kbr.toml:4`.
    pub place: String,
}

/// `[stores.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// A relative `file:` path is already joined with the folder of `kbr.toml`.
    pub url: String,
    /// Where it is written: `kbr.toml:9`.
    pub place: String,
}

/// `[rehearse]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RehearseConfig {
    /// The seed data, joined with the folder of `kbr.toml`.
    pub seed: Option<PathBuf>,
}

/// A `kbr.toml` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub path: String,
    /// The whole text, for the report to draw the line from.
    pub text: String,
    pub line: usize,
    pub column: usize,
    pub length: usize,
    pub message: String,
    /// A few words under the place ("did you mean `bootstrap`?").
    pub label: Option<String>,
    pub help: Option<String>,
}

/// A name that is in no `[clusters]` or `[stores]` section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} {name} in {place}")]
pub struct UnknownName {
    /// `cluster` or `store`.
    pub kind: &'static str,
    pub name: String,
    /// The path of the `kbr.toml`, or `kbr.toml (there is none)`.
    pub place: String,
    pub known: Vec<String>,
    pub nearest: Option<String>,
}

/// The file's name, looked for upward.
pub const FILE_NAME: &str = "kbr.toml";

impl Config {
    /// The nearest `kbr.toml` in `start` or a folder above it; an empty one if there is none.
    pub fn find(start: &Path) -> Result<Self, ConfigError> {
        let start = std::path::absolute(start).unwrap_or_else(|_| start.to_path_buf());
        for folder in start.ancestors() {
            let path = folder.join(FILE_NAME);
            if path.is_file() {
                return Self::read(&path);
            }
        }
        Ok(Self::default())
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            path: shown(path),
            text: String::new(),
            line: 0,
            column: 0,
            length: 0,
            message: format!("{} cannot be read: {error}", shown(path)),
            label: None,
            help: None,
        })?;
        Self::parse(path, &text, &|name| std::env::var(name).ok())
    }

    /// Reads `text` as the content of `path`; `environment` answers `${NAME}`.
    pub fn parse(
        path: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let reader = Reader {
            path,
            text,
            environment,
        };
        let document = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            reader.error(span, error.message().to_string())
        })?;
        let mut config = Config {
            path: Some(path.to_path_buf()),
            ..Config::default()
        };
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "clusters" => {
                    for (name, entry) in reader.table(value, "clusters")? {
                        let cluster = reader.cluster(name, entry)?;
                        config.clusters.insert(name.get_ref().to_string(), cluster);
                    }
                }
                "stores" => {
                    for (name, entry) in reader.table(value, "stores")? {
                        let store = reader.store(name, entry)?;
                        config.stores.insert(name.get_ref().to_string(), store);
                    }
                }
                "rehearse" => config.rehearse = reader.rehearse(value)?,
                _ => {
                    let known = ["clusters", "stores", "rehearse"];
                    return Err(reader.unknown_key(key, "kbr.toml", &known));
                }
            }
        }
        Ok(config)
    }

    pub fn cluster(&self, name: &str) -> Result<&ClusterConfig, UnknownName> {
        self.clusters
            .get(name)
            .ok_or_else(|| self.unknown("cluster", name, self.clusters.keys()))
    }

    pub fn store(&self, name: &str) -> Result<&StoreConfig, UnknownName> {
        self.stores
            .get(name)
            .ok_or_else(|| self.unknown("store", name, self.stores.keys()))
    }

    fn unknown<'a>(
        &self,
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a String>,
    ) -> UnknownName {
        let known: Vec<String> = known.cloned().collect();
        UnknownName {
            kind,
            name: name.to_string(),
            place: self.path.as_ref().map_or_else(
                || "kbr.toml (there is none)".to_string(),
                |path| shown(path),
            ),
            nearest: crate::base::text::did_you_mean(name, known.iter().map(String::as_str))
                .map(str::to_string),
            known,
        }
    }
}

/// A path as short as it can be said from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;
type Entry<'a> = Spanned<DeValue<'a>>;

/// Turns parsed TOML into the configuration; every error knows its place.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn cluster(&self, name: &Key<'_>, entry: &Entry<'_>) -> Result<ClusterConfig, ConfigError> {
        let section = format!("clusters.{}", name.get_ref());
        let mut bootstrap = None;
        for (key, value) in self.table(entry, &section)? {
            match key.get_ref().as_ref() {
                "bootstrap" => bootstrap = Some(self.addresses(value)?),
                _ => return Err(self.unknown_key(key, &section, &["bootstrap"])),
            }
        }
        let Some(bootstrap) = bootstrap else {
            let mut error = self.error(name.span(), format!("[{section}] has no bootstrap"));
            error.help = Some("bootstrap = \"host:9092\", or a list of them".into());
            return Err(error);
        };
        Ok(ClusterConfig {
            bootstrap,
            place: self.place(name.span()),
        })
    }

    fn store(&self, name: &Key<'_>, entry: &Entry<'_>) -> Result<StoreConfig, ConfigError> {
        let section = format!("stores.{}", name.get_ref());
        let mut url = None;
        for (key, value) in self.table(entry, &section)? {
            match key.get_ref().as_ref() {
                "url" => url = Some(self.string(value, "url")?),
                _ => return Err(self.unknown_key(key, &section, &["url"])),
            }
        }
        let Some(url) = url else {
            let mut error = self.error(name.span(), format!("[{section}] has no url"));
            error.help = Some("url = \"file:archive/prod\"".into());
            return Err(error);
        };
        Ok(StoreConfig {
            url: self.rooted(&url),
            place: self.place(name.span()),
        })
    }

    fn rehearse(&self, entry: &Entry<'_>) -> Result<RehearseConfig, ConfigError> {
        let mut rehearse = RehearseConfig::default();
        for (key, value) in self.table(entry, "rehearse")? {
            match key.get_ref().as_ref() {
                "seed" => {
                    rehearse.seed = Some(self.folder().join(self.string(value, "seed")?));
                }
                _ => return Err(self.unknown_key(key, "rehearse", &["seed"])),
            }
        }
        Ok(rehearse)
    }

    /// A relative `file:` path belongs to the folder of the file, not to where kbr was started.
    fn rooted(&self, url: &str) -> String {
        match url.strip_prefix("file:") {
            Some(path) if !path.starts_with('/') => {
                format!("file:{}", self.folder().join(path).display())
            }
            _ => url.to_string(),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn addresses(&self, value: &Entry<'_>) -> Result<Vec<String>, ConfigError> {
        let mut addresses = Vec::new();
        match value.get_ref() {
            DeValue::String(_) => {
                for address in self.string(value, "bootstrap")?.split(',') {
                    addresses.push((address.trim().to_string(), value.span()));
                }
            }
            DeValue::Array(items) => {
                for item in items.iter() {
                    addresses.push((self.string(item, "bootstrap")?, item.span()));
                }
                if addresses.is_empty() {
                    return Err(self.error(value.span(), "bootstrap is empty"));
                }
            }
            other => {
                return Err(self.error(
                    value.span(),
                    format!(
                        "bootstrap is a string or a list of strings, not {}",
                        kind(other)
                    ),
                ));
            }
        }
        addresses
            .into_iter()
            .map(|(address, span)| {
                let port = address
                    .rsplit_once(':')
                    .and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
                match port {
                    Some(_) => Ok(address),
                    None => {
                        let mut error =
                            self.error(span, format!("{address:?} is not an address host:port"));
                        error.help = Some("write host:9092".into());
                        Err(error)
                    }
                }
            })
            .collect()
    }

    fn string(&self, value: &Entry<'_>, key: &str) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => self
                .expanded(text)
                .map_err(|message| self.error(value.span(), message)),
            other => Err(self.error(
                value.span(),
                format!("{key} is a string, not {}", kind(other)),
            )),
        }
    }

    /// Puts in `${NAME}` and `${NAME:-default}`. An unset variable is an error, never an empty value: what it
    /// should have named would be something else in silence.
    fn expanded(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = inner.find('}') else {
                return Err(format!("`${{` without its `}}` in {text:?}"));
            };
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            let set = (self.environment)(name).filter(|value| !value.is_empty());
            match (set, default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(format!(
                        "environment variable {name} is not set (${{{name}:-value}} gives it a default)"
                    ));
                }
            }
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn table<'t, 'i>(
        &self,
        value: &'t Entry<'i>,
        section: &str,
    ) -> Result<&'t DeTable<'i>, ConfigError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            other => Err(self.error(
                value.span(),
                format!("{section} is a section, not {}", kind(other)),
            )),
        }
    }

    fn unknown_key(&self, key: &Key<'_>, section: &str, known: &[&str]) -> ConfigError {
        let name = key.get_ref();
        let place = if section == FILE_NAME {
            section.to_string()
        } else {
            format!("[{section}]")
        };
        let mut error = self.error(key.span(), format!("no key `{name}` in {place}"));
        error.label = crate::base::text::did_you_mean(name, known.iter().copied())
            .map(|near| format!("did you mean `{near}`?"));
        error.help = Some(format!("known here: {}", known.join(", ")));
        error
    }

    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let (line, column) = self.position(span.start);
        ConfigError {
            path: shown(self.path),
            text: self.text.to_string(),
            line,
            column,
            length: self.text.get(span).map_or(1, |slice| {
                slice.lines().next().unwrap_or("").chars().count()
            }),
            message: message.into(),
            label: None,
            help: None,
        }
    }

    fn place(&self, span: Range<usize>) -> String {
        let name = self.path.file_name().map_or_else(
            || FILE_NAME.to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        format!("{name}:{}", self.position(span.start).0)
    }

    /// Line and column from 1, in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        (line, column)
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let environment = |name: &str| match name {
            "PORT" => Some("9999".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Config::parse(Path::new("/ops/kbr.toml"), text, &environment)
    }

    #[test]
    fn environment_variables_are_put_in_and_a_missing_one_is_an_error() {
        let address = |written: &str| {
            let config = parse(&format!("[clusters.dr]\nbootstrap = \"{written}\"\n"))?;
            Ok::<_, ConfigError>(config.clusters["dr"].bootstrap.clone())
        };
        assert_eq!(address("h:${PORT}").unwrap(), ["h:9999"]);
        assert_eq!(address("${UNSET:-a:1,b:2}").unwrap(), ["a:1", "b:2"]);
        assert_eq!(address("h:${EMPTY:-1}").unwrap(), ["h:1"]);
        for written in ["h:${UNSET}", "h:${EMPTY}"] {
            let error = address(written).unwrap_err();
            assert!(error.message.contains("is not set"), "{error}");
            assert_eq!(error.line, 2);
        }
        let error = address("h:${PORT").unwrap_err();
        assert_eq!(error.message, "`${` without its `}` in \"h:${PORT\"");
    }

    #[test]
    fn clusters_and_stores_are_read_with_their_places() {
        let config = parse(
            "[clusters.prod]\nbootstrap = \"b1:9092, b2:9092\"\n\n[clusters.dr]\nbootstrap = [\"c1:9093\"]\n\n\
             [stores.archive]\nurl = \"file:archive/prod\"\n\n[rehearse]\nseed = \"seed.json\"\n",
        )
        .unwrap();
        let prod = config.cluster("prod").unwrap();
        assert_eq!(prod.bootstrap, ["b1:9092", "b2:9092"]);
        assert_eq!(prod.place, "kbr.toml:1");
        assert_eq!(config.cluster("dr").unwrap().bootstrap, ["c1:9093"]);
        assert_eq!(
            config.store("archive").unwrap().url,
            "file:/ops/archive/prod"
        );
        assert_eq!(config.rehearse.seed, Some(PathBuf::from("/ops/seed.json")));
    }

    #[test]
    fn an_absolute_store_stays_where_it_is() {
        let config = parse("[stores.a]\nurl = \"file:/srv/archive\"\n").unwrap();
        assert_eq!(config.store("a").unwrap().url, "file:/srv/archive");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one_and_its_place() {
        let error = parse("[clusters.dr]\nbootstrp = \"a:1\"\n").unwrap_err();
        assert_eq!(error.message, "no key `bootstrp` in [clusters.dr]");
        assert_eq!(error.label.as_deref(), Some("did you mean `bootstrap`?"));
        assert_eq!((error.line, error.column, error.length), (2, 1, 8));
    }

    #[test]
    fn an_unknown_section_is_an_error() {
        let error = parse("[cluster.dr]\nbootstrap = \"a:1\"\n").unwrap_err();
        assert_eq!(error.message, "no key `cluster` in kbr.toml");
        assert_eq!(error.label.as_deref(), Some("did you mean `clusters`?"));
    }

    #[test]
    fn a_wrong_type_and_a_wrong_address_are_errors() {
        let error = parse("[clusters.dr]\nbootstrap = 9092\n").unwrap_err();
        assert_eq!(
            error.message,
            "bootstrap is a string or a list of strings, not a whole number"
        );
        let error = parse("[clusters.dr]\nbootstrap = \"localhost\"\n").unwrap_err();
        assert_eq!(error.message, "\"localhost\" is not an address host:port");
        let error = parse("[clusters.dr]\n").unwrap_err();
        assert_eq!(error.message, "[clusters.dr] has no bootstrap");
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let error = parse("[clusters.dr]\nbootstrap = \n").unwrap_err();
        assert_eq!(error.line, 2);
    }

    #[test]
    fn a_missing_cluster_lists_the_known_ones() {
        let config = parse("[clusters.prod]\nbootstrap = \"a:1\"\n").unwrap();
        let error = config.cluster("prd").unwrap_err();
        assert_eq!(error.to_string(), "no cluster prd in /ops/kbr.toml");
        assert_eq!(error.known, ["prod"]);
        assert_eq!(error.nearest.as_deref(), Some("prod"));
    }

    #[test]
    fn the_nearest_file_upward_is_found() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(
            root.path().join("kbr.toml"),
            "[clusters.x]\nbootstrap = \"a:1\"\n",
        )
        .unwrap();
        let config = Config::find(&deep).unwrap();
        assert!(config.cluster("x").is_ok());
    }
}
