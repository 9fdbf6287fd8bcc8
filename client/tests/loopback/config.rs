//! Flag over environment over file over default, as the server sees the outcome.

use std::fs;

use dual16_proto::v1::{QuantizeSpec, layer_setting::Value};

use crate::cli::{quantize, run, succeeded};

#[tokio::test]
async fn a_flag_beats_the_environment_and_the_environment_the_file() {
    let fake = succeeded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    fs::write(
        &file,
        "template = \"a8w8\"\nobserver = \"kl\"\nmerge = \"ema\"\nrounding = \"floor\"\n\
         linear = [\"a=split\"]\nsave-outputs = true\n",
    )
    .unwrap();
    let mut command = quantize(&fake, &folder.path().join("out"), &["--template", "a16w16"]);
    command.arg("--config").arg(&file);
    command
        .env("DUAL16_TEMPLATE", "a16w8")
        .env("DUAL16_OBSERVER", "mse");
    command.env("DUAL16_FIXED_SCALE", "linear2.mul=7/32767;head=0.5");
    command.env("DUAL16_NAME", "nightly");

    let (code, _, stderr) = run(command).await;

    assert_eq!(code, 0, "{stderr}");
    let created = fake.state().created.pop().unwrap();
    assert_eq!(created.display_name, "nightly");
    let spec: QuantizeSpec = created.spec.unwrap().quantize.unwrap();
    assert_eq!(spec.template, "a16w16", "flag");
    assert_eq!(spec.observer, "mse", "environment");
    assert_eq!(
        (spec.merge.as_str(), spec.rounding.as_str()),
        ("ema", "floor"),
        "file"
    );
    assert_eq!(
        (spec.march.as_str(), spec.toolchain.as_str()),
        ("nash-m", "oe-3.1"),
        "default"
    );
    assert!(spec.save_outputs && !spec.power_of_two);
    assert_eq!(spec.min_layer_sqnr, Some(30.0));
    let values: Vec<_> = spec
        .settings
        .into_iter()
        .map(|setting| (setting.name, setting.value.unwrap()))
        .collect();
    assert_eq!(
        values,
        [
            ("a".to_owned(), Value::Way("split".to_owned())),
            ("linear2.mul".to_owned(), Value::FixedScale(7.0 / 32767.0)),
            ("head".to_owned(), Value::FixedScale(0.5)),
        ]
    );
}

#[tokio::test]
async fn a_file_with_an_unknown_key_is_refused_whole() {
    let fake = succeeded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    fs::write(&file, "templat = \"a8w8\"\n").unwrap();
    let mut command = quantize(&fake, folder.path(), &[]);
    command.env("DUAL16_CONFIG", &file);
    let (code, _, stderr) = run(command).await;
    assert_eq!(code, 2);
    assert!(
        stderr.contains("\"templat\"") && stderr.contains("template"),
        "{stderr}"
    );
    assert!(fake.state().created.is_empty());
}
