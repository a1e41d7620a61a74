//! What a user finds when nothing else happens.

use cognitofs::fs::Error;
use cognitofs::sync::Shown;

use super::{APPENDS, At, READS, User};

impl User {
    /// Checks, while nothing else happens, that a file shows what the service has, and that what is
    /// written next is based on that, and is made.
    pub async fn check(
        &self,
        dataset: usize,
        name: &'static str,
        there: Option<&(String, i64)>,
    ) -> Result<(), String> {
        let at = At { dataset, name };
        let Some((value, count)) = there else {
            return match self.open(at, READS).await {
                Err(Error::NotFound) => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(handle) => {
                    let shown = self.mount.text(&handle);
                    let is_litter = self.mount.is_held(&handle);
                    self.close(&handle).await;
                    if is_litter {
                        Ok(())
                    } else {
                        Err(format!("{shown:?} is shown, which is not there"))
                    }
                }
            };
        };
        let handle = self
            .open(at, APPENDS)
            .await
            .map_err(|error| error.to_string())?;
        let shown = self
            .mount
            .read(&handle)
            .map_err(|error| error.to_string())?;
        if shown != *value {
            return Err(format!("{shown:?} is shown for {value:?}"));
        }
        let token = self.token('z');
        self.add(&handle, &token)
            .map_err(|error| error.to_string())?;
        let base = self.mount.base(&handle);
        let expected = Some(Shown::Version(*count));
        if base.map(|base| base.shown) != expected {
            return Err(format!(
                "{shown:?} of {count} is changed on the base {base:?}"
            ));
        }
        let written = self.fsync(&handle).await;
        self.acknowledge(&handle, &token, None);
        self.close(&handle).await;
        written.map_err(|error| format!("it cannot be changed: {error}"))
    }
}
