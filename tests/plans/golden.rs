//! What `plan` and `status` say to people, word for word: `tests/cli/golden/plan.txt`.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::PROGRAM;
use crate::support::golden::{self, Normal};

#[test]
fn golden_what_plan_and_status_say() {
    let Some(scene) = Scene::new("plans: golden") else {
        return;
    };
    let disk = disk(&scene.lab);
    let mut normal = Normal::default();
    normal.call(scene.lab.dir.path().to_str().unwrap(), "/DIR");
    normal.call(PROGRAM, "PROGRAM");
    let host = nix::unistd::gethostname().unwrap();
    normal.call(host.to_str().unwrap(), "HOST");
    normal.call(disk.name(), "DISK");
    let mut page = String::new();
    let mut say = |command: &str, code: i32| {
        let words = command.replace("DISK", &disk.device);
        let words: Vec<&str> = words.split_whitespace().collect();
        let run = scene.run(&words).expect(code);
        page.push_str(&format!("$ stillpoint {command}\n"));
        for line in normal.text(&run.stderr).lines() {
            page.push_str(&format!("! {line}\n"));
        }
        page.push_str(&normal.text(&run.stdout));
        let code = if code == 0 {
            String::new()
        } else {
            format!("exit code {code}\n")
        };
        page.push_str(&format!("\n{code}\n"));
    };
    say("plan list", 0);
    say("plan create", 2);
    say("plan create daily --start 25:00 --every 1y --window x", 2);
    say(
        "plan create daily --start 2199-01-01T02:30:00 --every 1d --disk nosuch",
        1,
    );
    let all = "plan create daily --start 2199-01-01T02:30:00 --every 1d --disk DISK \
               --retention 30d --window 01:00-05:00 --verify 5% --verify-every 1w";
    say(all, 0);
    say(all, 1);
    say(
        "plan create daily2 --start 2199-01-01T02:30:00 --every 2d --disk DISK --keep-last 2",
        3,
    );
    say("plan suspend daily2", 0);
    say("plan run daily", 0);
    say("plan run daily3", 1);
    say("plan run --due", 0);
    say("plan run --due -v", 0);
    say("plan show daily", 0);
    say("plan delete daily2", 0);
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [\"gone\"]\nvault = {:?}\n",
        ago(2 * HOUR),
        scene.lab.at("vault"),
    );
    scene.write("late", &text, 10 * HOUR);
    say("plan list", 0);
    say("plan run --due", 1);
    say("plan list", 0);
    golden::check("plan", &page);
}
