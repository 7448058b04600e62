//! Disks that are full or cannot be written: the change is refused in words, reads and the mesh go on.

use std::{fs, path::Path};

use heddle_tests::{
    mesh::{Mesh, Role, binary},
    say,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::{Bed, service};

/// A file system of 16 MB, for root only.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(what: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        match mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(c"size=16m")) {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                say(&format!("LEFT OUT: the test of {what}: cannot mount a tmpfs ({error}); run it as root"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) -> std::path::PathBuf {
        use std::io::Write as _;
        let filler = self.path().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        // In ever smaller pieces, to the last byte.
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
        filler
    }

    fn make_read_only(&self) {
        mount_remount(self.path(), MountFlags::RDONLY, c"size=16m").unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

/// A mesh whose store is on that disk, its control plane's log too (the kit keeps it in the data directory).
async fn bed(mount: &Mount) -> Bed {
    Bed::on(Mesh::at(&mount.path().join("control"))).await
}

/// A change, large enough to need room.
fn change(n: usize) -> String {
    let text = "z".repeat(200_000);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big{n}}}\ndata: {{text: {text}}}\n")
}

/// Reads are answered, and so are requests.
async fn goes_on(bed: &Bed) {
    let (code, out, err) = bed.mesh.heddle(&["get", "services"]);
    assert!(code == 0 && out.contains("web"), "{out}{err}");
    bed.serves("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_the_change_and_nothing_else() {
    let Some(mount) = Mount::new("a full disk") else { return };
    let bed = bed(&mount).await;
    let filler = mount.fill();
    let mut refusal = None;
    for n in 0..60 {
        let (code, told) = bed.apply("change.yaml", &change(n));
        if code != 0 {
            refusal = Some(told);
            break;
        }
    }
    let told = refusal.expect("the store found room on a full disk");
    for text in ["ConfigMap default/big", "heddle.redb", "No space left", "Free space there", "reads go on"] {
        assert!(told.contains(text), "expected {text:?} in {told}");
    }
    goes_on(&bed).await;
    fs::remove_file(filler).unwrap();
    let (code, told) = bed.apply("after.yaml", &service("after", bed.backend.port()));
    assert_eq!(code, 0, "it recovers by itself: {told}");
    bed.serves("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_on_a_full_disk_serves_and_says_what_it_could_not_keep() {
    let Some(mount) = Mount::new("a proxy on a full disk") else { return };
    let mut bed = Bed::start().await;
    let dir = mount.path().join("proxy");
    let (xds, any) = (bed.mesh.xds(), "127.0.0.1:0");
    let args = ["proxy", "--xds", &xds, "--outbound", any, "--admin", any, "--dns", any];
    bed.client = Role::start("client", &dir, &args);
    bed.serves("web").await;
    let _filler = mount.fill();
    bed.mesh.apply(&service("later", bed.backend.port()));
    bed.serves("later").await;
    assert_eq!(crate::admin(&bed.client, "/ready").await, "LIVE\n");
}

#[test]
fn a_role_on_a_read_only_disk_says_which_directory_and_what_to_do() {
    let Some(mount) = Mount::new("a role on a read-only disk") else { return };
    mount.make_read_only();
    let dir = mount.path().join("data").display().to_string();
    for role in [
        &["control", "--api=127.0.0.1:0", "--xds=127.0.0.1:0"][..],
        &["proxy", "--outbound=127.0.0.1:0", "--admin=127.0.0.1:0", "--dns=127.0.0.1:0"],
    ] {
        let output =
            std::process::Command::new(binary()).args(role).args(["--data-dir", &dir]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{role:?}: {told}");
        assert!(told.contains(&dir) && told.contains("--data-dir"), "{role:?}: {told}");
    }
}
