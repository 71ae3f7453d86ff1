//! Checks a built component against the world it must target, and against its size limit.
//!
//! `check-component COMPONENT WIT_DIRECTORY SIZE_LIMIT_BYTES`: the directory holds the world's package, and below `deps/` the
//! packages it names. The component may import less than the world offers, never more, and must export all that it asks for.
//! A compatible version of a package (0.2.6 for 0.2.12) is as good: which one it is, the compiler's standard library decides.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wit_parser::decoding::DecodedWasm;
use wit_parser::{PackageName, Resolve};

/// What is wrong; none of it changes by trying again.
#[derive(Debug)]
enum CheckError {
    /// The person who called it left out or misspelt an argument.
    Usage,
    /// A file that cannot be read: it has not been built, or the path is wrong.
    Unreadable(PathBuf, std::io::Error),
    /// The world's own text is wrong.
    World(String),
    /// The file is no component.
    Component(String),
    /// The component needs what the world does not offer, or lacks what it asks for.
    Mismatch(String),
    /// The component grew past its limit.
    TooLarge { size_bytes: u64, limit_bytes: u64 },
}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage => f.write_str("usage: check-component COMPONENT WIT_DIRECTORY SIZE_LIMIT_BYTES"),
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::World(why) => write!(f, "the world cannot be read: {why}"),
            Self::Component(why) => write!(f, "the component cannot be read: {why}"),
            Self::Mismatch(why) => write!(f, "the component does not match the world: {why}"),
            Self::TooLarge { size_bytes, limit_bytes } => {
                write!(f, "the component has {size_bytes} bytes, more than the limit of {limit_bytes}")
            }
        }
    }
}

fn check(component: &Path, wit: &Path, limit_bytes: u64) -> Result<u64, CheckError> {
    let bytes = std::fs::read(component).map_err(|error| CheckError::Unreadable(component.into(), error))?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).map_err(|error| CheckError::World(format!("{error:#}")))?;
    let world = resolve.select_world(&[package], None).map_err(|error| CheckError::World(format!("{error:#}")))?;
    take_versions(&mut resolve, &bytes)?;
    wit_component::targets(&resolve, world, &bytes).map_err(|error| CheckError::Mismatch(format!("{error:#}")))?;
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size_bytes > limit_bytes { Err(CheckError::TooLarge { size_bytes, limit_bytes }) } else { Ok(size_bytes) }
}

/// Gives the world's packages the compatible versions that the component was built with; the types are still compared.
fn take_versions(resolve: &mut Resolve, component: &[u8]) -> Result<(), CheckError> {
    let decoded = wit_parser::decoding::decode(component).map_err(|error| CheckError::Component(format!("{error:#}")))?;
    let DecodedWasm::Component(built, _) = decoded else {
        return Err(CheckError::Component("it is an interface package".into()));
    };
    for (_, package) in resolve.packages.iter_mut() {
        let compatible =
            built.packages.iter().map(|(_, theirs)| &theirs.name).find(|theirs| is_compatible(theirs, &package.name));
        if let Some(theirs) = compatible {
            package.name = theirs.clone();
        }
    }
    Ok(())
}

fn is_compatible(one: &PackageName, other: &PackageName) -> bool {
    let track = |name: &PackageName| name.version.as_ref().map(PackageName::version_compat_track);
    one.namespace == other.namespace && one.name == other.name && track(one) == track(other)
}

fn run() -> Result<(), CheckError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, wit, limit] = arguments.as_slice() else { return Err(CheckError::Usage) };
    let limit_bytes = limit.parse().map_err(|_| CheckError::Usage)?;
    let size_bytes = check(Path::new(component), Path::new(wit), limit_bytes)?;
    println!("{component}: matches its world, {size_bytes} of {limit_bytes} bytes");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("check-component: {error}");
            ExitCode::FAILURE
        }
    }
}
