//! The way to what is on the network: judged by name, looked up, judged by address where a policy looks at that, and connected to at that address only.

use super::function::Call;
use crate::error::{Error, Kind, Result};
use crate::policy::{Access, Action, Granted, Prospect, Value};
use crate::resource::endpoint::{Endpoint, URL};
use crate::sys::net::{self, Patience, Wire, lookup};
use core::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses of a name that are tried.
const TRIED: usize = 8;

/// `network::Action::"connect"`: connect to a port.
pub enum Connect {}
impl Action for Connect {
    type On = Endpoint;
    const NAMESPACE: &'static str = "network";
    const NAME: &'static str = "connect";
    const APPLIES_TO: &'static [&'static str] = &[URL.name];
    const GROUPS: &'static [&'static str] = &["NetworkAction"];
    const DOC: &'static str = "Connect to a port of a host, and see what it says first; what is sent, if anything, is for TLS or the DNS.";
    const ACCESS: Access = Access::ReadOnly;
}

/// A connection to what was granted.
pub struct Way<'a, A: Action<On = Endpoint>> {
    pub granted: Granted<A>,
    pub wire: Wire<'a>,
    pub address: IpAddr,
    pub lookup: Duration,
    pub connect: Duration,
}

impl<'a, A: Action<On = Endpoint>> Way<'a, A> {
    /// What follows the connection has the time of the whole call.
    fn in_time(mut self, patience: Patience<'a>) -> Self {
        self.wire.patience = patience;
        self
    }
}

/// Asks the policy and connects.
///
/// # Errors
/// Those of the question; of looking up; of connecting, for the last address that was tried.
pub fn open<'a, A: Action<On = Endpoint>>(
    call: &Call<'_>,
    endpoint: &Endpoint,
    context: &[(&'static str, Value)],
    patience: Patience<'a>,
) -> Result<Way<'a, A>> {
    let began = Instant::now();
    // A dry run has no business with any host.
    let withheld = A::ACCESS == Access::Change && call.host.gate.dry_run();
    if endpoint.address().is_none()
        && !withheld
        && let Prospect::Open(foreseen) = call.host.gate.foresee::<A>(endpoint, context, "address")
    {
        let found = match lookup::addresses(&foreseen, patience) {
            Ok(found) => found,
            Err(error) => {
                call.check()?;
                // Who may not reach it does not learn whether there is such a name.
                return Err(call.permit_with::<A>(endpoint.unreachable(error), context.to_vec()).err().unwrap_or_else(nowhere));
            }
        };
        let looked_up = began.elapsed();
        return each(call, found, patience, |address, share| {
            let granted = call.permit_with::<A>(endpoint.at(address), context.to_vec())?;
            let connecting = Instant::now();
            let wire = net::connect(&granted, address, share)?;
            Ok(Way { granted, wire, address, lookup: looked_up, connect: connecting.elapsed() })
        })
        .map(|way| way.in_time(patience));
    }
    let mut granted = Some(call.permit_with::<A>(endpoint.clone(), context.to_vec())?);
    if let Some(held) = granted.as_ref().filter(|granted| granted.held()) {
        return Err(call.withhold(held, "", None)?);
    }
    let found = granted.as_ref().map_or_else(|| Err(nowhere()), |granted| lookup::addresses(granted, patience))?;
    let looked_up = began.elapsed();
    each(call, found, patience, |address, share| {
        let connecting = Instant::now();
        let wire = net::connect(granted.as_ref().ok_or_else(nowhere)?, address, share)?;
        let granted = granted.take().ok_or_else(nowhere)?;
        Ok(Way { granted, wire, address, lookup: looked_up, connect: connecting.elapsed() })
    })
    .map(|way| way.in_time(patience))
}

/// Tries one address after the other; each but the last has its share of the time.
fn each<'a, T>(
    call: &Call<'_>,
    found: Vec<IpAddr>,
    patience: Patience<'a>,
    mut go: impl FnMut(IpAddr, Patience<'a>) -> Result<T>,
) -> Result<T> {
    let mut last = nowhere();
    let count = found.len().min(TRIED);
    for (at, address) in found.into_iter().take(TRIED).enumerate() {
        let shares = u32::try_from(count - at).unwrap_or(1);
        match go(address, patience.at_most(patience.left() / shares)) {
            Ok(done) => return Ok(done),
            Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Timeout) => last = error,
            Err(error) => return Err(error),
        }
        call.check()?;
    }
    Err(last)
}

fn nowhere() -> Error {
    Error::new(Kind::Unavailable, "no address answered")
}
