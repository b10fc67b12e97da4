//! The engines of a queue, so that one suite of tests holds for each.

/// An engine that can hold a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
}

/// Makes a test on each engine of every listed `async fn name(engine: Engine)`. A function that is not
/// listed is dead code, which the compiler reports.
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::support::engine::Engine::Sqlite).await;
                }
            )+
        }
    };
}
pub(crate) use on_each_engine;
