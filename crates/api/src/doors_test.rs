use super::*;

#[test]
fn hosts() {
    let doors = Doors::new(&["mesh.example".to_owned(), "[fd00::1]".to_owned()]);
    for host in [
        "localhost",
        "LOCALHOST:1",
        "a.localhost:80",
        "127.0.0.1",
        "127.9.9.9:5",
        "[::1]:80",
        "mesh.example:15014",
        "[fd00::1]:1",
    ] {
        assert!(doors.allows(host), "{host}");
    }
    for host in [
        "",
        "evil",
        "mesh.example.evil",
        "localhost.evil",
        "10.0.0.1",
        "0.0.0.0:15014",
        "[fd00::2]:1",
        "::1x",
        "127.0.0.1.evil:80",
    ] {
        assert!(!doors.allows(host), "{host}");
    }
    assert!(Doors::new(&["*".to_owned()]).allows("anything:1"));
}
