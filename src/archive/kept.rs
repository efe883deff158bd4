//! What a generation keeps besides records: the groups' committed offsets, and the cluster's ACLs and quotas.
//!
//! Each is one sealed object that the generation names with size and hash. What has not changed since the generation
//! before is not written again: the new one names the old object.

use super::manifest::{ClusterRef, ClusterState, Generation, Groups, GroupsRef};
use super::open::seal;
use super::{Archive, Damage, DamageKind, Error, Result, sealed};
use crate::base::Digest;
use crate::store;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An object as a generation names it.
struct Named<'a> {
    path: &'a str,
    size: u64,
    digest: Digest,
}

/// Reads a generation's groups object and checks it against the generation.
pub(super) async fn read_groups(archive: &Archive, generation: &Generation) -> Result<Groups> {
    let Some(reference) = &generation.groups else {
        return Ok(Groups::default());
    };
    let named = Named {
        path: &reference.path,
        size: reference.size,
        digest: reference.digest,
    };
    read(archive, generation, named, "its groups' offsets").await
}

/// Reads what a generation keeps of the cluster; `None` if it keeps nothing.
pub(super) async fn read_cluster(
    archive: &Archive,
    generation: &Generation,
) -> Result<Option<ClusterState>> {
    let Some(reference) = &generation.cluster else {
        return Ok(None);
    };
    let named = Named {
        path: &reference.path,
        size: reference.size,
        digest: reference.digest,
    };
    read(archive, generation, named, "its ACLs and quotas")
        .await
        .map(Some)
}

async fn read<T: DeserializeOwned>(
    archive: &Archive,
    generation: &Generation,
    named: Named<'_>,
    lost: &str,
) -> Result<T> {
    let damaged = |kind: DamageKind| {
        let mut damage = Damage::new(named.path, kind);
        damage.restorable = format!(
            "all records of generation {}, but not {lost}",
            generation.number
        );
        Error::from(damage)
    };
    let bytes = match archive.store().get(named.path).await {
        Ok(bytes) => bytes,
        Err(store::Error::NotFound { .. }) => return Err(damaged(DamageKind::Missing)),
        Err(store::Error::BadPath { why, .. }) => return Err(damaged(DamageKind::Format(why))),
        Err(error) => return Err(error.into()),
    };
    if bytes.len() as u64 != named.size {
        return Err(damaged(DamageKind::Size {
            expected: named.size,
            found: bytes.len() as u64,
        }));
    }
    let found = Digest::of(&bytes);
    if found != named.digest {
        return Err(damaged(DamageKind::Hash {
            expected: named.digest.hex(),
            found: found.hex(),
        }));
    }
    sealed::open(&bytes).map_err(|error| damaged(DamageKind::Format(error.to_string())))
}

/// Parses a groups object. Takes any bytes.
pub fn parse_groups(bytes: &[u8]) -> Result<Groups, sealed::SealError> {
    sealed::open(bytes)
}

/// Parses a cluster object. Takes any bytes.
pub fn parse_cluster(bytes: &[u8]) -> Result<ClusterState, sealed::SealError> {
    sealed::open(bytes)
}

/// Writes groups under `path` and returns what the generation says of them; what it said before if nothing changed.
pub(super) async fn put_groups(
    archive: &Archive,
    path: String,
    groups: &Groups,
    before: Option<&GroupsRef>,
) -> Result<GroupsRef> {
    let count = groups.groups.len() as u64;
    let known = before.map(|before| Named {
        path: &before.path,
        size: before.size,
        digest: before.digest,
    });
    let put = put(archive, path, groups, known).await?;
    Ok(GroupsRef {
        path: put.path,
        size: put.size,
        digest: put.digest,
        count,
    })
}

/// Writes what is kept of the cluster, likewise.
pub(super) async fn put_cluster(
    archive: &Archive,
    path: String,
    cluster: &ClusterState,
    before: Option<&ClusterRef>,
) -> Result<ClusterRef> {
    let known = before.map(|before| Named {
        path: &before.path,
        size: before.size,
        digest: before.digest,
    });
    let put = put(archive, path, cluster, known).await?;
    Ok(ClusterRef {
        path: put.path,
        size: put.size,
        digest: put.digest,
        acls: cluster.acls.as_ref().map(|acls| acls.len() as u64),
        quotas: cluster.quotas.as_ref().map(|quotas| quotas.len() as u64),
    })
}

struct Put {
    path: String,
    size: u64,
    digest: Digest,
}

async fn put<T: Serialize>(
    archive: &Archive,
    path: String,
    value: &T,
    before: Option<Named<'_>>,
) -> Result<Put> {
    let bytes = seal(value)?;
    let (size, digest) = (bytes.len() as u64, Digest::of(&bytes));
    if let Some(before) = before
        && (before.size, before.digest) == (size, digest)
        // One that was lost, cut or changed is written anew; what is said of it is no proof of what is there.
        && archive
            .store()
            .get(before.path)
            .await
            .is_ok_and(|found| Digest::of(&found) == digest)
    {
        let path = before.path.to_string();
        return Ok(Put { path, size, digest });
    }
    archive.store().create(&path, bytes).await?;
    Ok(Put { path, size, digest })
}
