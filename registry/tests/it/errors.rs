//! What people read: every error names its subject and, where they can act, says how.

use std::fs;
use std::io;
use std::sync::Arc;

use mynah_registry::{Error, ManifestDraft, Registry, RegistryOptions};

use crate::support::{Home, ada, draft, flip_bit, gate};

/// The message and the hint, with what differs between runs replaced.
fn rendered(home: &Home, error: &Error) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}").replace(&home.root.path().display().to_string(), "ROOT")
}

#[test]
fn damage() {
    let home = Home::new();
    let one = home.add("one");
    flip_bit(&home.object(&one.manifest.files["config.json"].sha256));
    let error = home.registry.verify(&one).unwrap_err();
    insta::assert_snapshot!(rendered(&home, &error), @r"
    config.json of v1 is corrupt in ROOT/registry/objects/fb/fb29dc49203099b0aacfc6c57b1b735000611a4a06acb7598173b24600fa766c: expected sha256 fb29dc49203099b0aacfc6c57b1b735000611a4a06acb7598173b24600fa766c, found 389f268fc07ccdaf75058caab4e6e1d1f80dfb293118ba4083ef9e0f3d494ee2
    hint: register the files of v1 again to restore the object, or restore it from a backup
    ");
    fs::remove_file(home.object(&one.manifest_digest)).unwrap();
    let error = home.registry.verify(&one).unwrap_err();
    insta::assert_snapshot!(rendered(&home, &error), @r"
    manifest of v1 is missing: ROOT/registry/objects/eb/eb4b21c88a196131cb5d921aab32708d91fa3f78162b2b66c2acca87d31014c0 with sha256 eb4b21c88a196131cb5d921aab32708d91fa3f78162b2b66c2acca87d31014c0 does not exist
    hint: register the files of v1 again to restore the object, or restore it from a backup
    ");
    fs::remove_file(home.dir().join("journal/000000000001.json")).unwrap();
    let error = home.registry.log().unwrap_err();
    insta::assert_snapshot!(rendered(&home, &error), @r"
    the journal is broken at entry 1 (ROOT/registry/journal/000000000001.json): the entry is missing
    hint: restore the file from a backup of the journal; entries are never removed
    ");
}

#[test]
fn unknown_names() {
    let home = Home::new();
    insta::assert_snapshot!(rendered(&home, &home.registry.version("v1").unwrap_err()), @r#"
    no version is called "v1"
    hint: list the versions; a name like v12, a tag, production, base or 6 digits of a digest will do
    "#);
    (0..12).for_each(|number| drop(home.add(&number.to_string())));
    home.promote(&home.registry.version("v11").unwrap());
    home.registry.tag(&home.registry.version("v3").unwrap(), "before-summer", &ada()).unwrap();
    insta::assert_snapshot!(rendered(&home, &home.registry.version("v13").unwrap_err()), @r#"
    no version is called "v13"
    hint: did you mean v12?
    "#);
    insta::assert_snapshot!(rendered(&home, &home.registry.version("prodution").unwrap_err()), @r#"
    no version is called "prodution"
    hint: did you mean production?
    "#);
    insta::assert_snapshot!(rendered(&home, &home.registry.version("before-sumer").unwrap_err()), @r#"
    no version is called "before-sumer"
    hint: did you mean before-summer?
    "#);
    insta::assert_snapshot!(rendered(&home, &home.registry.version("???").unwrap_err()), @r#"
    no version is called "???"
    hint: list the versions; a name like v12, a tag, production, base or 6 digits of a digest will do
    "#);
    insta::assert_snapshot!(rendered(&home, &home.registry.version("base").unwrap_err()), @r"
    no base is registered
    hint: register a base model first
    ");
}

#[test]
fn refusals() {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    insta::assert_snapshot!(rendered(&home, &home.registry.rollback(None, &ada()).unwrap_err()), @r"
    nothing is in production
    hint: promote a version first
    ");
    home.promote(&one);
    let error = home.registry.promote(&two, None, gate(), &ada()).unwrap_err();
    insta::assert_snapshot!(rendered(&home, &error), @r"
    production changed: expected nothing, found eb4b21c88a19
    hint: compare with what is in production now, and promote again
    ");
    let error = home.registry.promote(&one, None, gate(), &ada()).unwrap_err();
    insta::assert_snapshot!(error.hint().unwrap_or_default(), @"the version is in production already: nothing is left to do");
    insta::assert_snapshot!(rendered(&home, &home.registry.rollback(None, &ada()).unwrap_err()), @r"
    there is nothing to roll back to: no earlier version of production is fit to serve
    hint: promote another version instead
    ");
    insta::assert_snapshot!(rendered(&home, &home.registry.rollback(Some(&two), &ada()).unwrap_err()), @r"
    cannot roll back to v2: it was never in production
    hint: promote v2 instead
    ");
    insta::assert_snapshot!(rendered(&home, &home.registry.delete(&one, &ada()).unwrap_err()), @r"
    cannot delete v1: it is in production
    hint: roll back or promote another version first
    ");
    insta::assert_snapshot!(rendered(&home, &home.registry.tag(&one, "base", &ada()).unwrap_err()), @r#"
    "base" cannot be a tag: it is, or could become, the name of a version
    hint: choose another one, of letters, digits, '-', '_' and '.', as in release-1
    "#);
    home.registry.quarantine(&two, &ada()).unwrap();
    let error = home.registry.promote(&two, Some(&one.manifest_digest), gate(), &ada()).unwrap_err();
    insta::assert_snapshot!(rendered(&home, &error), @r"
    v2 (0fed9409ec04) is quarantined
    hint: choose another version; a quarantined one is never promoted
    ");
    home.registry.delete(&two, &ada()).unwrap();
    insta::assert_snapshot!(rendered(&home, &home.registry.tag(&two, "x", &ada()).unwrap_err()), @r"
    v2 was deleted
    hint: register its files again; they get a new name
    ");
}

#[test]
fn what_cannot_be_registered() {
    let home = Home::new();
    let empty = home.root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let add = |path: &std::path::Path| home.registry.add_directory(path, draft(), &ada()).unwrap_err();
    insta::assert_snapshot!(rendered(&home, &add(&empty)), @r"
    ROOT/empty holds no files to register
    hint: hidden files and *.tmp are left out; is it the right directory?
    ");
    insta::assert_snapshot!(rendered(&home, &add(&home.root.path().join("nowhere"))), @r"
    cannot list ROOT/nowhere: no such file or directory
    hint: check the path
    ");
    fs::write(home.root.path().join("file"), "").unwrap();
    insta::assert_snapshot!(rendered(&home, &add(&home.root.path().join("file"))), @r"
    cannot list ROOT/file: not a directory
    hint: ROOT/file is a file, or is inside one; choose a directory
    ");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        fs::write(empty.join("a\nb"), "").unwrap();
        insta::assert_snapshot!(rendered(&home, &add(&empty)).replace('\n', "|"), @"cannot register ROOT/empty/a|b: control characters, backslashes and colons are not allowed in names|hint: rename the file");
        fs::remove_file(empty.join("a\nb")).unwrap();
        fs::write(empty.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        assert!(matches!(add(&empty), Error::InvalidFileName { .. }));
        fs::remove_file(empty.join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
        std::os::unix::fs::symlink("nowhere", empty.join("dangling")).unwrap();
        insta::assert_snapshot!(rendered(&home, &add(&empty)), @r"
        cannot read ROOT/empty/dangling: no such file or directory
        hint: check the path
        ");
    }
}

#[test]
fn what_the_operating_system_refuses() {
    let home = Home::new();
    fs::write(home.root.path().join("file"), "").unwrap();
    for path in ["file", "file/registry"] {
        let error = Registry::open(&home.root.path().join(path)).unwrap_err();
        let text = rendered(&home, &error);
        assert!(
            text.starts_with(&format!("cannot create the directory ROOT/{path}: not a directory\nhint: ")),
            "{text}"
        );
    }
    let refused = |kind: io::ErrorKind| {
        let options = RegistryOptions { fault: Arc::new(move |_| Err(kind.into())), ..RegistryOptions::default() };
        Registry::open_with(&home.dir(), options)
            .unwrap()
            .add_directory(&home.model("one"), draft(), &ada())
            .unwrap_err()
    };
    let text = |kind| {
        let text = rendered(&home, &refused(kind));
        // The shard is that of whichever file comes first.
        let start = text.find("objects/").unwrap() + "objects/".len();
        format!("{}xx{}", &text[..start], &text[start + 2..]).replace(&text[start..start + 2], "xx")
    };
    insta::assert_snapshot!(text(io::ErrorKind::PermissionDenied), @r"
    cannot create the directory ROOT/registry/objects/xx: permission denied
    hint: check who owns ROOT/registry/objects/xx and may write there
    ");
    insta::assert_snapshot!(text(io::ErrorKind::StorageFull), @r"
    cannot create the directory ROOT/registry/objects/xx: the disk is full
    hint: free some space and repeat; what was stored before is intact
    ");
    insta::assert_snapshot!(text(io::ErrorKind::ReadOnlyFilesystem), @r"
    cannot create the directory ROOT/registry/objects/xx: the file system is read-only
    hint: choose a directory that can be written
    ");
    insta::assert_snapshot!(text(io::ErrorKind::Other), @"cannot create the directory ROOT/registry/objects/xx: other error");
}

#[test]
fn two_digests_that_start_alike() {
    // Found by counting: the first two drafts whose manifests share six digits.
    let home = Home::new();
    let mut seen = std::collections::HashMap::new();
    let files = home.add("one").manifest.files;
    let (first, second) = (0..)
        .find_map(|seed| {
            let draft = ManifestDraft { seed: Some(seed), ..draft() };
            let digest = draft.clone().with_files(files.clone()).digest();
            let earlier = seen.insert(digest.to_string()[..6].to_owned(), draft.clone());
            earlier.map(|earlier| (earlier, draft))
        })
        .unwrap();
    let [first, second] =
        [first, second].map(|draft| home.registry.add_directory(&home.model("one"), draft, &ada()).unwrap());
    let prefix = &first.manifest_digest.to_string()[..6];
    let error = home.registry.version(prefix).unwrap_err();
    let text = rendered(&home, &error).replace(prefix, "PREFIX");
    insta::assert_snapshot!(text, @r"
    PREFIX is the start of 2 digests: v2, v3
    hint: give more digits, or the version's name
    ");
    assert_eq!(home.registry.version(&second.manifest_digest.to_string()).unwrap().name, "v3");
}
