//! One setting by name, applied to everything it matches. A name that matches nothing, or something
//! the setting can have no effect on, is an error; nothing is ignored silently.

use std::collections::HashSet;

use dual16_nash::legality::Rules;

use super::{
    LinearRequest, OperatorRequest, Request, Slot, ValueRequest,
    known::{Found, Known, Target},
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
        known: &Known<'_>,
        settings: &Settings,
        name: &str,
        value: &SettingValue,
    ) -> Result<()> {
        match *value {
            SettingValue::Way(choice) => self.set_way(graph, known, settings, name, choice),
            SettingValue::HighPrecision(keep) => {
                self.each_linear(graph, known, "high_precision", name, |request, node| {
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
            SettingValue::Operator(choice) => {
                let found = known.operators("operator", name)?;
                let node = |target| match target {
                    Target::Node(id) => Some(id),
                    Target::Linear(_) | Target::Slot(..) | Target::Value(_) => None,
                };
                self.operators.push(OperatorRequest {
                    name: name.to_owned(),
                    nodes: found.targets.into_iter().filter_map(node).collect(),
                    choice,
                });
                self.notices.extend(found.notice);
                Ok(())
            }
            SettingValue::Dtype(dtype) => self.each_value(graph, known, "dtype", name, |value| {
                value.dtype = dtype;
                value.explicit = true;
            }),
            SettingValue::FixedScale(scale) => {
                let scale = checked_scale(name, scale)?;
                self.each_tensor(
                    graph,
                    known,
                    "fixed_scale",
                    name,
                    |value| value.fixed_scale = Some(scale),
                    |slot| slot.fixed_scale = Some(scale),
                )
            }
            SettingValue::Observer(observer) => self.each_tensor(
                graph,
                known,
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
        known: &Known<'_>,
        settings: &Settings,
        name: &str,
        choice: WayChoice,
    ) -> Result<()> {
        let rules = Rules::of(settings.march, settings.toolchain);
        let template = settings.template.way();
        self.each_linear(graph, known, "way", name, |request, node| {
            request.requested = choice;
            request.explicit = true;
            request.reason = String::new();
            request.fit = match choice {
                WayChoice::Fitted(_, fit) => Some(fit),
                WayChoice::Auto | WayChoice::Fixed(_) => None,
            };
            request.start = match choice {
                WayChoice::Auto => template,
                WayChoice::Fixed(way) | WayChoice::Fitted(way, _) => {
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
        known: &Known<'_>,
        setting: &str,
        name: &str,
        mut set: impl FnMut(&mut LinearRequest, &Node) -> Result<()>,
    ) -> Result<()> {
        let found = known.linears(setting, name)?;
        for target in found.targets {
            let Target::Linear(id) = target else { continue };
            if let Some(request) = self.linears.get_mut(&id) {
                set(request, &graph.nodes[id])?;
            }
        }
        self.notices.extend(found.notice);
        Ok(())
    }

    fn each_value(
        &mut self,
        graph: &Graph,
        known: &Known<'_>,
        setting: &str,
        name: &str,
        set: impl FnMut(&mut ValueRequest),
    ) -> Result<()> {
        let found = known.values(setting, name)?;
        self.set_tensors(graph, setting, name, found, set, |_| {})
    }

    /// Values and the inner tensors of Linears alike.
    fn each_tensor(
        &mut self,
        graph: &Graph,
        known: &Known<'_>,
        setting: &str,
        name: &str,
        set_value: impl FnMut(&mut ValueRequest),
        set_slot: impl FnMut(&mut SlotRequest),
    ) -> Result<()> {
        let found = known.tensors(setting, name)?;
        self.set_tensors(graph, setting, name, found, set_value, set_slot)
    }

    /// A value that was moved shares its source's scale, and a parameter is not observed: to name
    /// such a one is an error, to match it by a glob does nothing.
    fn set_tensors(
        &mut self,
        graph: &Graph,
        setting: &str,
        name: &str,
        found: Found,
        mut set_value: impl FnMut(&mut ValueRequest),
        mut set_slot: impl FnMut(&mut SlotRequest),
    ) -> Result<()> {
        let refused = |reason: String| match found.is_glob {
            true => Ok(()),
            false => Err(Error::Setting {
                setting: format!("{setting} of '{name}'"),
                reason,
            }),
        };
        for target in found.targets {
            match target {
                Target::Slot(_, Slot::Weight | Slot::Bias) if setting == OBSERVER => refused(
                    "a parameter is not observed, its range is exact; a fixed scale can be given \
                     instead"
                        .to_owned(),
                )?,
                Target::Slot(id, slot) => {
                    let request = self.slots.entry((id, slot)).or_default();
                    request.named |= !found.is_glob;
                    set_slot(request);
                }
                Target::Value(index) => {
                    let source = graph.origin(ValueId(index));
                    match source.0 == index {
                        true => set_value(&mut self.values[index]),
                        false => refused(format!(
                            "it has the dtype and scale of '{}', which it is moved from; set that \
                             one",
                            graph.value(source).name
                        ))?,
                    }
                }
                Target::Linear(_) | Target::Node(_) => {}
            }
        }
        self.notices.extend(found.notice);
        Ok(())
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
