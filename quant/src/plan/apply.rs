//! One setting by name, applied to everything it matches. A name that matches nothing, or something
//! the setting can have no effect on, is an error; nothing is ignored silently.

use std::collections::HashSet;

use dual16_nash::legality::Rules;

use super::{
    LinearRequest, Request, Slot, ValueRequest,
    names::{Pattern, unknown},
    request::{SlotRequest, feeds_only_outputs},
};
use crate::{
    Error, Result,
    graph::{Graph, Node, ValueId},
    settings::{SettingValue, Settings, WayChoice},
};

/// The setting of an observer, as the API calls it.
const OBSERVER: &str = "observer";

impl Request {
    /// Applies one setting to everything its name matches.
    pub(super) fn apply(
        &mut self,
        graph: &Graph,
        settings: &Settings,
        name: &str,
        value: &SettingValue,
    ) -> Result<()> {
        match *value {
            SettingValue::Way(choice) => self.set_way(graph, settings, name, choice),
            SettingValue::HighPrecision(keep) => {
                self.each_linear(graph, "high_precision", name, |request, node| {
                    if keep && !feeds_only_outputs(graph, node.outputs[0]) {
                        return Err(Error::Setting {
                            setting: format!("high_precision of '{}'", node.name),
                            reason:
                                "its output is read by other layers, which need integers; only \
                                     a layer that feeds the model's output can keep it"
                                    .to_owned(),
                        });
                    }
                    request.high_precision = keep;
                    Ok(())
                })
            }
            SettingValue::Dtype(dtype) => self.each_value(graph, "dtype", name, |value| {
                value.dtype = dtype;
                value.explicit = true;
            }),
            SettingValue::FixedScale(scale) => {
                let scale = checked_scale(name, scale)?;
                self.each_tensor(
                    graph,
                    "fixed_scale",
                    name,
                    |value| value.fixed_scale = Some(scale),
                    |slot| slot.fixed_scale = Some(scale),
                )
            }
            SettingValue::Observer(observer) => self.each_tensor(
                graph,
                OBSERVER,
                name,
                |value| value.observer = observer,
                |slot| slot.observer = Some(observer),
            ),
        }
    }

    fn set_way(
        &mut self,
        graph: &Graph,
        settings: &Settings,
        name: &str,
        choice: WayChoice,
    ) -> Result<()> {
        let rules = Rules::of(settings.march, settings.toolchain);
        let template = settings.template.way();
        self.each_linear(graph, "way", name, |request, node| {
            request.requested = choice;
            request.explicit = true;
            request.reason = String::new();
            request.start = match choice {
                WayChoice::Auto => template,
                WayChoice::Fixed(way) => {
                    let legality = rules.check(way);
                    if !legality.legal {
                        let layer = node.name.clone();
                        return Err(Error::IllegalWay {
                            layer,
                            reason: legality.reason,
                        });
                    }
                    way
                }
            };
            Ok(())
        })?;
        // A layer that is set by name falls back no more.
        let linears = &self.linears;
        let explicit: HashSet<&str> = linears
            .iter()
            .filter(|(_, request)| request.explicit)
            .map(|(&id, _)| graph.nodes[id].name.as_str())
            .collect();
        self.notices
            .retain(|notice| !explicit.contains(notice.subject.as_str()));
        Ok(())
    }

    fn each_linear(
        &mut self,
        graph: &Graph,
        setting: &str,
        name: &str,
        mut set: impl FnMut(&mut LinearRequest, &Node) -> Result<()>,
    ) -> Result<()> {
        let pattern = Pattern::new(setting, name)?;
        let mut found = false;
        for (&id, request) in &mut self.linears {
            let node = &graph.nodes[id];
            if pattern.matches(&node.name) {
                found = true;
                set(request, node)?;
            }
        }
        if found {
            return Ok(());
        }
        let known = graph.linears().map(|(_, node, _)| node.name.as_str());
        Err(unknown("Linear layer", name, known))
    }

    /// Values with a scale of their own. One that was moved shares its source's: to name it is an
    /// error, to match it by a glob does nothing.
    fn each_value(
        &mut self,
        graph: &Graph,
        setting: &str,
        name: &str,
        mut set: impl FnMut(&mut ValueRequest),
    ) -> Result<()> {
        let pattern = Pattern::new(setting, name)?;
        let mut found = false;
        for (index, (value, request)) in graph.values.iter().zip(&mut self.values).enumerate() {
            if !pattern.matches(&value.name) {
                continue;
            }
            found = true;
            let source = graph.origin(ValueId(index));
            if source.0 == index {
                set(request);
            } else if !pattern.is_glob() {
                return Err(Error::Setting {
                    setting: format!("{setting} of '{name}'"),
                    reason: format!(
                        "it has the dtype and scale of '{}', which it is moved from; set that one",
                        graph.value(source).name
                    ),
                });
            }
        }
        if found {
            return Ok(());
        }
        Err(unknown(
            "tensor",
            name,
            graph.values.iter().map(|value| value.name.as_str()),
        ))
    }

    /// Values and the inner tensors of Linears alike.
    fn each_tensor(
        &mut self,
        graph: &Graph,
        setting: &str,
        name: &str,
        set_value: impl FnMut(&mut ValueRequest),
        mut set_slot: impl FnMut(&mut SlotRequest),
    ) -> Result<()> {
        let pattern = Pattern::new(setting, name)?;
        let mut found = false;
        for (id, node, _) in graph.linears() {
            for slot in Slot::ALL {
                if !pattern.matches(&format!("{}.{}", node.name, slot.suffix())) {
                    continue;
                }
                found = true;
                let parameter = matches!(slot, Slot::Weight | Slot::Bias);
                if !(parameter && setting == OBSERVER) {
                    let request = self.slots.entry((id.0, slot)).or_default();
                    request.named |= !pattern.is_glob();
                    set_slot(request);
                } else if !pattern.is_glob() {
                    return Err(Error::Setting {
                        setting: format!("{setting} of '{name}'"),
                        reason:
                            "a parameter is not observed, its range is exact; a fixed scale can \
                                 be given instead"
                                .to_owned(),
                    });
                }
            }
        }
        match self.each_value(graph, setting, name, set_value) {
            Err(Error::UnknownName { .. }) if found => Ok(()),
            result => result,
        }
    }
}

fn checked_scale(name: &str, scale: f64) -> Result<f32> {
    let narrow = scale as f32;
    if narrow.is_finite() && narrow > 0.0 {
        return Ok(narrow);
    }
    Err(Error::Setting {
        setting: format!("fixed_scale of '{name}'"),
        reason: format!("{scale} is no scale; it must be finite and > 0, such as 7/32767"),
    })
}
