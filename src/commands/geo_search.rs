//! Geo: the search for members near a place, and its forms under older names.

use super::geo::{UNIT, coordinates, meters, place, unit};
use super::zset_ranges::store_found;
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::args::Cursor;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Argument;
use crate::protocol::spec::access::{ACCESS, OW, RO, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, MOVABLEKEYS};
use crate::protocol::spec::syntax::{block, double, integer, key, one_of, string, token};
use crate::protocol::spec::{Begin, Find, Group, KeySpec};
use crate::store::{Entry, Interrupt, Key, Transaction, View};
use crate::types::geo::{self, Found, Place, Shape};
use crate::types::zset;

const STORE_KEYS_FROM_5: &[KeySpec] = &store_keys(5);
const STORE_KEYS_FROM_6: &[KeySpec] = &store_keys(6);

const fn store_keys(from: i32) -> [KeySpec; 3] {
    [KeySpec::one(1, RO.and(ACCESS)), key_behind("STORE", from), key_behind("STOREDIST", from)]
}

const fn key_behind(word: &'static str, from: i32) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword(word, from),
        find: Find::Range { last: 0, step: 1, limit: 0 },
        access: OW.and(UPDATE),
        notes: "",
    }
}

/// Where GEOSEARCH and its kin look from.
const FROM: Argument = one_of(
    "from",
    &[
        string("member").token("FROMMEMBER"),
        block("longitude_latitude", &[double("longitude"), double("latitude")]).token("FROMLONLAT"),
    ],
);
/// How far.
const BY: Argument = one_of(
    "by",
    &[
        block("circle", &[double("radius").token("BYRADIUS"), UNIT]),
        block("box", &[double("width").token("BYBOX"), double("height"), UNIT]),
    ],
);

/// The declarations.
pub const COMMANDS: &[Command] = &[
    read("geosearch", geosearch)
        .arity(-7)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Returns the members within a circle or a box.")
        .history(&[("7.0.0", "Units in upper case.")])
        .arguments(&[
            key("key", 0),
            FROM,
            BY,
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional()]).optional(),
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
        ]),
    write("geosearchstore", geosearchstore)
        .arity(-8)
        .flags(DENYOOM)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, OW.and(UPDATE)), KeySpec::one(2, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Makes a sorted set of the members within a circle or a box.")
        .history(&[("7.0.0", "Units in upper case.")])
        .arguments(&[
            key("destination", 0),
            key("source", 1),
            FROM,
            BY,
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional()]).optional(),
            token("storedist", "STOREDIST").optional(),
        ]),
    write("georadius", georadius)
        .arity(-6)
        .flags(DENYOOM.and(MOVABLEKEYS))
        .group(Group::Geo)
        .keys(STORE_KEYS_FROM_6)
        .since("3.2.0")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Returns or stores the members within a circle around a place.")
        .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")
        .history(&[("6.2.0", "The option `ANY` of `COUNT`."), ("7.0.0", "Units in upper case.")])
        .arguments(&[
            key("key", 0),
            double("longitude"),
            double("latitude"),
            double("radius"),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional().since("6.2.0")])
                .optional(),
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
            key("key", 1).token("STORE").optional(),
            key("key", 2).token("STOREDIST").optional(),
        ]),
    read("georadius_ro", georadius_ro)
        .arity(-6)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("3.2.10")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Returns the members within a circle around a place.")
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")
        .history(&[("6.2.0", "The option `ANY` of `COUNT`.")])
        .arguments(&[
            key("key", 0),
            double("longitude"),
            double("latitude"),
            double("radius"),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional().since("6.2.0")])
                .optional(),
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
        ]),
    write("georadiusbymember", georadiusbymember)
        .arity(-5)
        .flags(DENYOOM.and(MOVABLEKEYS))
        .group(Group::Geo)
        .keys(STORE_KEYS_FROM_5)
        .since("3.2.0")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Returns or stores the members within a circle around a member.")
        .deprecated(
            "6.2.0",
            "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        )
        .history(&[("7.0.0", "Units in upper case.")])
        .arguments(&[
            key("key", 0),
            string("member"),
            double("radius"),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional()]).optional(),
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
            key("key", 1).token("STORE").optional(),
            key("key", 2).token("STOREDIST").optional(),
        ]),
    read("georadiusbymember_ro", georadiusbymember_ro)
        .arity(-5)
        .group(Group::Geo)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("3.2.10")
        .complexity("O(N + log M), N members near the area, M in it.")
        .summary("Returns the members within a circle around a member.")
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")
        .arguments(&[
            key("key", 0),
            string("member"),
            double("radius"),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block("count", &[integer("count").token("COUNT"), token("any", "ANY").optional()]).optional(),
            one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional(),
        ]),
];

/// Takes a length without its unit.
fn length(words: &mut Cursor, refused: &'static str) -> Result<f64, ErrorReply> {
    number::parse_f64(words.word()?).ok_or(ErrorReply::fixed(refused))
}

/// Takes a radius and its unit: the shape, and how many meters the unit has.
fn circle(words: &mut Cursor) -> Result<(Shape, f64), ErrorReply> {
    let radius = length(words, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(ErrorReply::fixed("ERR radius cannot be negative"));
    }
    let meters = unit(words)?;
    Ok((Shape::Circle(radius * meters), meters))
}

/// Takes width, height and their unit.
fn rectangle(words: &mut Cursor) -> Result<(Shape, f64), ErrorReply> {
    let width = length(words, "ERR need numeric width")?;
    let height = length(words, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(ErrorReply::fixed("ERR height or width cannot be negative"));
    }
    let meters = unit(words)?;
    Ok((Shape::Box(width * meters, height * meters), meters))
}

/// Which command searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// GEORADIUS, which may store if so.
    Around { stores: bool },
    /// GEORADIUSBYMEMBER, which may store if so.
    AroundMember { stores: bool },
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
}

/// In which order results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// What a search is for. Without a set there may be no middle: a member has none then.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Plan<'a> {
    middle: Option<Place>,
    from_member: bool,
    from_place: bool,
    shape: Option<(Shape, f64)>,
    order: Option<Order>,
    count: Option<usize>,
    any: bool,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    target: Option<&'a [u8]>,
    stores_distance: bool,
}

/// The set that is searched.
type Source<'a, 'b> = (&'b Key<'a>, Option<&'b Entry>);

fn member_place(view: &mut View, (key, entry): Source, member: &[u8]) -> Result<Option<Place>, Failure> {
    const NONE: ErrorReply = ErrorReply::fixed("ERR could not decode requested zset member");
    let Some(entry) = entry else { return Ok(None) };
    let score = zset::score(view, key, entry, member)?.ok_or(NONE)?;
    Ok(Some(Place::of_score(score)))
}

impl<'a> Plan<'a> {
    fn parse(
        request: &Request<'a>,
        view: &mut View,
        asked: Asked,
        source: Source,
    ) -> Result<Plan<'a>, Failure> {
        let mut plan = Plan::default();
        let mut words = request.args.cursor(2);
        match asked {
            Asked::Around { .. } => {
                plan.middle = Some(place(&mut words)?);
                plan.shape = Some(circle(&mut words)?);
            }
            Asked::AroundMember { .. } if source.1.is_none() => words = request.args.cursor(5),
            Asked::AroundMember { .. } => {
                plan.middle = member_place(view, source, words.word()?)?;
                plan.shape = Some(circle(&mut words)?);
            }
            Asked::Search => {}
            Asked::SearchStore => {
                words = request.args.cursor(3);
                plan.target = Some(request.args.at(1));
            }
        }
        while !words.is_done() {
            if !plan.option(&mut words, asked)? && !plan.search_option(view, &mut words, asked, source)? {
                return Err(error::SYNTAX.into());
            }
        }
        plan.check(request, asked)?;
        Ok(plan)
    }

    /// Takes an option that more than one command has. Whether there was one.
    fn option(&mut self, words: &mut Cursor<'a>, asked: Asked) -> Result<bool, ErrorReply> {
        let may_store =
            matches!(asked, Asked::Around { stores: true } | Asked::AroundMember { stores: true });
        let has_value = words.left() >= 2;
        if words.eat("WITHDIST") {
            self.with_distance = true;
        } else if words.eat("WITHHASH") {
            self.with_hash = true;
        } else if words.eat("WITHCOORD") {
            self.with_place = true;
        } else if words.eat("ANY") {
            self.any = true;
        } else if words.eat("ASC") {
            self.order = Some(Order::Nearest);
        } else if words.eat("DESC") {
            self.order = Some(Order::Farthest);
        } else if has_value && words.eat("COUNT") {
            let count = words.int()?;
            let count = usize::try_from(count).ok().filter(|&count| count > 0);
            self.count = Some(count.ok_or(ErrorReply::fixed("ERR COUNT must be > 0"))?);
        } else if has_value && may_store && words.eat("STORE") {
            (self.target, self.stores_distance) = (Some(words.word()?), false);
        } else if has_value && may_store && words.eat("STOREDIST") {
            (self.target, self.stores_distance) = (Some(words.word()?), true);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes an option of GEOSEARCH and GEOSEARCHSTORE. Whether there was one.
    fn search_option(
        &mut self,
        view: &mut View,
        words: &mut Cursor<'a>,
        asked: Asked,
        source: Source,
    ) -> Result<bool, Failure> {
        if !matches!(asked, Asked::Search | Asked::SearchStore) {
            return Ok(false);
        }
        let is_box = self.shape.is_some_and(|(shape, _)| matches!(shape, Shape::Box(..)));
        let is_circle = self.shape.is_some() && !is_box;
        let left = words.left();
        if left >= 2 && !self.from_place && words.eat("FROMMEMBER") {
            self.from_member = true;
            self.middle = member_place(view, source, words.word()?)?;
        } else if left >= 3 && !self.from_member && words.eat("FROMLONLAT") {
            self.from_place = true;
            self.middle = Some(place(words)?);
        } else if left >= 3 && !is_box && words.eat("BYRADIUS") {
            self.shape = Some(circle(words)?);
        } else if left >= 4 && !is_circle && words.eat("BYBOX") {
            self.shape = Some(rectangle(words)?);
        } else if asked == Asked::SearchStore && words.eat("STOREDIST") {
            self.stores_distance = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the options go together.
    fn check(&self, request: &Request, asked: Asked) -> Result<(), ErrorReply> {
        let searches = matches!(asked, Asked::Search | Asked::SearchStore);
        if self.target.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            let what = if searches { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(ErrorReply::new(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let missing = |what: &str| {
            ErrorReply::quoting(&format!("ERR exactly one of {what} for "), request.args.at(0), "")
        };
        if searches && !self.from_member && !self.from_place {
            return Err(missing("FROMMEMBER or FROMLONLAT can be specified"));
        }
        if searches && self.shape.is_none() {
            return Err(missing("BYRADIUS and BYBOX can be specified"));
        }
        if self.any && self.count.is_none() {
            return Err(ErrorReply::fixed("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// What is found, in the order it is shown, distances in the unit asked for.
    fn found(&self, view: &mut View, (key, entry): Source) -> Result<Vec<Found>, Interrupt> {
        let (Some(entry), Some(middle), Some((shape, unit))) = (entry, self.middle, self.shape) else {
            return Ok(Vec::new());
        };
        let limit = self.count.filter(|_| self.any).unwrap_or(0);
        let mut found = geo::search(view, key, entry, middle, shape, limit)?;
        // Some of many are the nearest, unless any will do.
        let order = self.order.or(self.count.filter(|_| !self.any).map(|_| Order::Nearest));
        if let Some(order) = order {
            found.sort_by(|a, b| match order {
                Order::Nearest => a.distance.total_cmp(&b.distance),
                Order::Farthest => b.distance.total_cmp(&a.distance),
            });
        }
        found.truncate(self.count.unwrap_or(usize::MAX));
        found.iter_mut().for_each(|found| found.distance /= unit);
        Ok(found)
    }

    fn show(&self, found: Found) -> Reply {
        let member = Reply::Bulk(found.member);
        if !self.with_distance && !self.with_hash && !self.with_place {
            return member;
        }
        let mut parts = vec![member];
        if self.with_distance {
            parts.push(meters(found.distance));
        }
        if self.with_hash {
            parts.push(Reply::Int(found.score as i64));
        }
        if self.with_place {
            parts.push(coordinates(found.place));
        }
        Reply::Array(parts)
    }
}

/// Runs a search over the set at word `at`.
fn searched<'a>(
    request: &Request<'a>,
    view: &mut View,
    asked: Asked,
    at: usize,
) -> Result<(Plan<'a>, Vec<Found>), Failure> {
    let key = request.key(at);
    let entry = zset::find(view, &key)?;
    let source = (&key, entry.as_ref());
    let plan = Plan::parse(request, view, asked, source)?;
    let found = plan.found(view, source)?;
    Ok((plan, found))
}

fn show_found(request: &Request, view: &mut View, asked: Asked) -> Outcome {
    let (plan, found) = searched(request, view, asked, 1)?;
    Ok(Reply::Array(found.into_iter().map(|found| plan.show(found)).collect()))
}

fn store_or_show(request: &Request, transaction: &mut Transaction, asked: Asked, at: usize) -> Outcome {
    let (plan, found) = transaction.as_reader(|view| searched(request, view, asked, at))?;
    let Some(target) = plan.target else {
        return Ok(Reply::Array(found.into_iter().map(|found| plan.show(found)).collect()));
    };
    let scored = found
        .into_iter()
        .map(|found| (if plan.stores_distance { found.distance } else { found.score }, found.member));
    let scored: Vec<_> = scored.collect();
    store_found(request, transaction, &request.key_named(target), &scored)
}

fn geosearch(request: &Request, view: &mut View) -> Outcome {
    show_found(request, view, Asked::Search)
}

fn geosearchstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_or_show(request, transaction, Asked::SearchStore, 2)
}

fn georadius(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_or_show(request, transaction, Asked::Around { stores: true }, 1)
}

fn georadius_ro(request: &Request, view: &mut View) -> Outcome {
    show_found(request, view, Asked::Around { stores: false })
}

fn georadiusbymember(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_or_show(request, transaction, Asked::AroundMember { stores: true }, 1)
}

fn georadiusbymember_ro(request: &Request, view: &mut View) -> Outcome {
    show_found(request, view, Asked::AroundMember { stores: false })
}
