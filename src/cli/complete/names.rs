//! The names that there are: in `kbr.toml`, in the journal, in an archive, on a cluster that answers quickly.

use super::Candidate;
use crate::archive::Archive;
use crate::base::Pattern;
use crate::base::time::format_instant;
use crate::dsl::{Takes, documented};
use crate::kafka::{Client, ConnectOptions, TopicsWanted};
use crate::run::{Config, journal_path, recent_runs};
use crate::store::Store;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More than a script can say of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Takes(Takes),
    OneOf(Vec<Candidate>),
    /// A file of this ending.
    Ending(&'static str),
    UnfinishedRun,
    /// `orders`, `orders:3`
    TopicOrPartition,
    /// A name of the runbook language.
    Documented,
}

/// What the other words have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub cluster: Option<String>,
    pub archive: Option<String>,
    pub source: Option<String>,
    pub topic: Option<String>,
    /// Where `kbr.toml` is looked for; where one stands if not said.
    pub folder: Option<PathBuf>,
}

/// More lines than this are no help at TAB.
const MOST_RUNS: usize = 50;

/// What could stand there, `begun` being typed already.
pub fn candidates(
    wanted: &Wanted,
    begun: &str,
    context: &Context,
    deadline: Instant,
) -> Vec<Candidate> {
    let asked = Place {
        context,
        deadline,
        config: Config::find(context.folder.as_deref().unwrap_or(Path::new(".")))
            .unwrap_or_default(),
    };
    let found = match wanted {
        // However it is typed, it is written as it is declared.
        Wanted::OneOf(words) => {
            let typed = begun.to_lowercase();
            let words = words.iter();
            return words
                .filter(|word| word.value.to_lowercase().starts_with(&typed))
                .cloned()
                .collect();
        }
        Wanted::Ending(ending) => files(begun, Some(ending)),
        Wanted::UnfinishedRun => asked.runs(true),
        Wanted::TopicOrPartition => match begun.rsplit_once(':') {
            None => asked.topics(),
            Some((topic, _)) => asked
                .partitions(topic)
                .into_iter()
                .map(|found| Candidate::new(format!("{topic}:{}", found.value), found.about))
                .collect(),
        },
        Wanted::Documented => {
            let names = documented(begun).into_iter();
            names.map(|name| Candidate::new(name, "")).collect()
        }
        Wanted::Takes(takes) => match takes {
            Takes::Cluster => asked.clusters(""),
            Takes::Archive => asked.archives(begun),
            Takes::Source => {
                let mut found = asked.archives(begun);
                found.extend(asked.clusters("cluster:"));
                found
            }
            Takes::Group => asked.groups(),
            Takes::Topic => asked.topics(),
            Takes::Groups => several(begun, asked.groups()),
            Takes::Topics => several(begun, asked.topics()),
            Takes::Partition => match &context.topic {
                Some(topic) => asked.partitions(topic),
                None => Vec::new(),
            },
            Takes::Generation => asked.generations(),
            Takes::Run => asked.runs(false),
            Takes::File => files(begun, None),
            Takes::Text | Takes::Number | Takes::State | Takes::OneOf(_) => Vec::new(),
        },
    };
    // What begins like an option is read as one.
    let found = found.into_iter().filter(|one| !one.value.starts_with('-'));
    super::beginning_with(begun, found.collect())
}

/// Names with commas between: the last one is at the cursor, those before are not offered again. Where several are taken
/// patterns are too: a name that kbr would read as one, or as two names, would stand for others than itself.
fn several(begun: &str, found: Vec<Candidate>) -> Vec<Candidate> {
    let (before, last) = match begun.rfind(',') {
        Some(comma) => begun.split_at(comma + 1),
        None => ("", begun),
    };
    let taken: Vec<&str> = before.split(',').collect();
    found
        .into_iter()
        .filter(|found| found.value.starts_with(last) && !taken.contains(&found.value.as_str()))
        .filter(|found| !found.value.starts_with('-') && !found.value.contains(','))
        .filter(|found| matches!(Pattern::parse(&found.value), Ok(Pattern::Name(_))))
        .map(|found| Candidate::new(format!("{before}{}", found.value), found.about))
        .collect()
}

struct Place<'a> {
    context: &'a Context,
    deadline: Instant,
    config: Config,
}

/// Where groups and topics are looked for.
enum Of {
    Cluster(Vec<String>),
    Archive(String),
}

impl Place<'_> {
    fn clusters(&self, prefix: &str) -> Vec<Candidate> {
        let clusters = self.config.clusters.iter();
        clusters
            .map(|(name, cluster)| {
                Candidate::new(format!("{prefix}{name}"), cluster.bootstrap.join(","))
            })
            .collect()
    }

    fn archives(&self, begun: &str) -> Vec<Candidate> {
        if let Some(path) = begun.strip_prefix("file:") {
            let folders = files(path, Some("")).into_iter();
            return folders
                .map(|found| Candidate::new(format!("file:{}", found.value), found.about))
                .collect();
        }
        let stores = self.config.stores.iter();
        stores
            .map(|(name, store)| Candidate::new(name, &store.url))
            .collect()
    }

    fn runs(&self, unfinished: bool) -> Vec<Candidate> {
        let Ok(path) = journal_path(|name| std::env::var_os(name)) else {
            return Vec::new();
        };
        let (send, receive) = std::sync::mpsc::channel();
        // A large journal on a slow disk is not waited for either; then the runs stand there without their runbooks.
        std::thread::spawn(move || {
            [false, true].map(|with_runbook| send.send(recent_runs(&path, MOST_RUNS, with_runbook)))
        });
        let mut runs = Vec::new();
        for _ in 0..2 {
            let left = self.deadline.saturating_duration_since(Instant::now());
            runs = receive.recv_timeout(left).unwrap_or(runs);
        }
        let runs = runs.into_iter();
        runs.filter(|run| !unfinished || run.end != "done")
            .map(|run| {
                let began = format_instant(run.started);
                let began = began.get(..16).unwrap_or_default().replace('T', " ");
                let about = [run.runbook, run.end, began];
                let about: Vec<String> = about.into_iter().filter(|s| !s.is_empty()).collect();
                Candidate::new(run.run.0, about.join(", "))
            })
            .collect()
    }

    fn generations(&self) -> Vec<Candidate> {
        let Some(Of::Archive(url)) = self.of() else {
            return Vec::new();
        };
        let read = async {
            let archive = Archive::open(Store::open_text(&url).await.ok()?)
                .await
                .ok()?;
            let listing = archive.listing(Some(MOST_RUNS)).await.ok()?;
            let points = listing.generations.iter().map(|point| {
                let at = format_instant(point.consistency_point);
                let at = at.get(..16).unwrap_or_default().replace('T', " ");
                Candidate::new(point.number.to_string(), at)
            });
            Some(points.collect())
        };
        self.wait(read)
    }

    fn groups(&self) -> Vec<Candidate> {
        match self.of() {
            None => Vec::new(),
            Some(Of::Cluster(bootstrap)) => self.wait(async {
                let client = self.connect(bootstrap).await?;
                let groups = client.list_groups().await.ok()?.into_iter();
                Some(
                    groups
                        .map(|group| Candidate::new(group.group, group.state))
                        .collect(),
                )
            }),
            Some(Of::Archive(url)) => self.wait(async {
                let archive = Archive::open(Store::open_text(&url).await.ok()?)
                    .await
                    .ok()?;
                let groups = archive.latest().await.ok()?.groups().await.ok()?;
                let groups = groups.groups.into_iter();
                Some(
                    groups
                        .map(|group| Candidate::new(group.group, group.state))
                        .collect(),
                )
            }),
        }
    }

    /// Topics with their numbers of partitions. Kafka's own are not offered, as they are seldom meant.
    fn all_topics(&self) -> Vec<(String, usize)> {
        match self.of() {
            None => Vec::new(),
            Some(Of::Cluster(bootstrap)) => self.wait(async {
                let client = self.connect(bootstrap).await?;
                let topics = client.topics(TopicsWanted::All).await.ok()?.into_iter();
                let topics = topics.filter(|topic| !topic.internal);
                Some(
                    topics
                        .map(|topic| (topic.name, topic.partitions.len()))
                        .collect(),
                )
            }),
            Some(Of::Archive(url)) => self.wait(async {
                let archive = Archive::open(Store::open_text(&url).await.ok()?)
                    .await
                    .ok()?;
                let snapshot = archive.latest().await.ok()?;
                let topics = snapshot.topics();
                Some(
                    topics
                        .map(|topic| (topic.name.clone(), topic.partitions.len()))
                        .collect(),
                )
            }),
        }
    }

    fn topics(&self) -> Vec<Candidate> {
        let topics = self.all_topics().into_iter();
        topics
            .map(|(name, count)| {
                Candidate::new(name, crate::base::text::counted(count as i128, "partition"))
            })
            .collect()
    }

    fn partitions(&self, topic: &str) -> Vec<Candidate> {
        let topics = self.all_topics().into_iter();
        let count = topics.filter(|(name, _)| name == topic).map(|(_, n)| n);
        let count = count.max().unwrap_or(0);
        (0..count)
            .map(|partition| Candidate::new(partition.to_string(), ""))
            .collect()
    }

    /// The place that the other words name: of several the one that the names come from.
    fn of(&self) -> Option<Of> {
        let Context {
            cluster,
            archive,
            source,
            ..
        } = self.context;
        if let Some(source) = source {
            return match source.strip_prefix("cluster:") {
                Some(cluster) => self.cluster(cluster),
                None => self.archive(source),
            };
        }
        match (archive, cluster) {
            (Some(archive), _) => self.archive(archive),
            (None, Some(cluster)) => self.cluster(cluster),
            (None, None) => None,
        }
    }

    fn archive(&self, name: &str) -> Option<Of> {
        match name.contains(':') {
            true => Some(Of::Archive(name.to_string())),
            false => Some(Of::Archive(self.config.store(name).ok()?.url.clone())),
        }
    }

    fn cluster(&self, name: &str) -> Option<Of> {
        // A sandbox would have to be started, and is empty.
        if name.starts_with("sandbox:") {
            return None;
        }
        if !name.contains(':') {
            return Some(Of::Cluster(
                self.config.cluster(name).ok()?.bootstrap.clone(),
            ));
        }
        let addresses = name.split(',').map(|address| address.trim().to_string());
        Some(Of::Cluster(addresses.collect()))
    }

    async fn connect(&self, bootstrap: Vec<String>) -> Option<Client> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = ConnectOptions {
            connect_timeout: left,
            request_timeout: left,
            // An answer of "not now" is as good as none.
            retry_deadline: Duration::ZERO,
            ..ConnectOptions::new(bootstrap)
        };
        Client::connect(options).await.ok()
    }

    /// What a read gives before the time is over; nothing otherwise.
    fn wait<T>(&self, read: impl Future<Output = Option<Vec<T>>>) -> Vec<T> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(2)
            .enable_all()
            .build();
        let Ok(runtime) = runtime else {
            return Vec::new();
        };
        let found = runtime.block_on(async { tokio::time::timeout(left, read).await });
        // A name that is still looked up, a file that is still read: the process ends without them.
        runtime.shutdown_background();
        found.ok().flatten().unwrap_or_default()
    }
}

/// Folders, and files of this ending (with "" none, without one all), for a path that is begun.
fn files(begun: &str, ending: Option<&str>) -> Vec<Candidate> {
    let (folder, begun_name) = match begun.rfind('/') {
        Some(slash) => begun.split_at(slash + 1),
        None => ("", begun),
    };
    let read = match (folder, folder.strip_prefix("~/")) {
        ("", _) => PathBuf::from("."),
        (_, Some(below)) => {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Path::new(&home).join(below)
        }
        (_, None) => PathBuf::from(folder),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(read).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let hidden = name.starts_with('.') && !begun_name.starts_with('.');
        if hidden || !name.starts_with(begun_name) {
            continue;
        }
        let path = entry.path();
        let wanted = match ending {
            None => true,
            Some(ending) => path.extension().is_some_and(|found| found == ending),
        };
        if path.is_dir() {
            found.push(Candidate::new(format!("{folder}{name}/"), ""));
        } else if wanted {
            found.push(Candidate::new(format!("{folder}{name}"), ""));
        }
    }
    found.sort();
    found
}
