//! One endpoint changes: one endpoint set is compiled and encoded, and each stream is sent that and no more.
//! The full sizes are measured by the binary `xds_scale`; see docs/scale.md.

use heddle_tests::scale::{Plane, Size, Streams, Work, percentile};
use heddle_xds::ResourceType;

#[tokio::test(flavor = "multi_thread")]
async fn work_is_what_changed() {
    let size = Size { services: 100, endpoints: 10, routes: 20, streams: 200, connections: 4 };
    let plane = Plane::start(size).await;
    let mut streams = Streams::open(plane.xds, size).await;
    let settled = plane.work();
    let sets = (size.services * size.streams) as u64;
    assert_eq!(
        settled.encoded[ResourceType::Endpoint.index()],
        size.services as u64,
        "each set once for all"
    );
    assert_eq!(settled.resources[ResourceType::Endpoint.index()], sets);
    for round in 0..5 {
        let before = plane.work();
        let began = plane.touch(round * 17).await;
        let took = streams.arrivals(began, size.streams).await;
        assert_eq!(plane.work().since(&before), Work::of_one_endpoint_set(size.streams));
        let (half, most) = (percentile(&took, 50), percentile(&took, 99));
        heddle_tests::say(&format!("reached {} streams: half in {half:?}, 99% in {most:?}", size.streams));
    }
}
