//! stub
use super::world::*;
use crate::run::Config;
use crate::sandbox::Sandbox;
pub struct Rehearsal;
impl Rehearsal {
    pub fn read(_: &Config) -> Result<Self, WorldError> {
        Ok(Self)
    }
    pub async fn fill(&self, _: &str, _: &Sandbox) -> Result<(), WorldError> {
        Ok(())
    }
    pub fn store_url(&self, name: &str) -> String {
        format!("memory:{name}")
    }
    pub fn source(&self) -> &str {
        "prod"
    }
    pub async fn back_up(&self, _: &ClusterHandle, _: &StoreHandle) -> Result<(), WorldError> {
        Ok(())
    }
}
