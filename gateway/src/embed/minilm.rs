//! all-MiniLM-L6-v2: six layers of BERT, 384 numbers a text. Weights as their authors published them (Apache-2.0).
//!
//! The arithmetic is candle's, the words are cut by the model's own tokenizer; this file only says which weight goes
//! where. What the model can't read has no embedding: a text of more than 256 of its words, one with a word that it
//! doesn't know, one in another script. It would give such texts vectors, and they would lie near each other.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module, VarBuilder};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokenizers::Tokenizer;

/// What it was trained on, and what its authors cut at. Its own words, the two marks around a text among them.
const MAX_WORDS: usize = 256;
const WORDS: usize = 30_522;
const PLACES: usize = 512;
const WIDTH: usize = 384;
const INNER_WIDTH: usize = 1_536;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;
const UNKNOWN: &str = "[UNK]";

/// The model, in memory: 91 MB.
#[derive(Debug)]
pub(super) struct MiniLm {
    threads: ThreadPool,
    tokenizer: Tokenizer,
    unknown: Option<u32>,
    words: Embedding,
    places: Embedding,
    kinds: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl MiniLm {
    /// From the files of the model.
    ///
    /// # Errors
    /// In the libraries' words, if they aren't.
    pub(super) fn new(weights: Vec<u8>, tokenizer: &[u8]) -> std::result::Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(|error| error.to_string())?;
        // Cut and filled up, a long text would look like its beginning.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        // candle spreads a product over the pool that it is called from: half the cores are for serving.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let threads = ThreadPoolBuilder::new()
            .num_threads((cores / 2).max(1))
            .thread_name(|at| format!("embed {at}"))
            .build()
            .map_err(|error| error.to_string())?;
        Self::load(weights, tokenizer, threads).map_err(|error| error.to_string())
    }

    /// Runs something on the model's own threads.
    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.threads.spawn(work);
    }

    fn load(weights: Vec<u8>, tokenizer: Tokenizer, threads: ThreadPool) -> Result<Self> {
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        let embeddings = weights.pp("embeddings");
        let layer = |at| Layer::load(&weights.pp("encoder.layer").pp(at));
        Ok(MiniLm {
            threads,
            unknown: tokenizer.token_to_id(UNKNOWN),
            tokenizer,
            words: candle_nn::embedding(WORDS, WIDTH, embeddings.pp("word_embeddings"))?,
            places: candle_nn::embedding(PLACES, WIDTH, embeddings.pp("position_embeddings"))?,
            kinds: candle_nn::embedding(2, WIDTH, embeddings.pp("token_type_embeddings"))?,
            norm: candle_nn::layer_norm(WIDTH, EPSILON, embeddings.pp("LayerNorm"))?,
            layers: (0..LAYERS).map(layer).collect::<Result<_>>()?,
        })
    }

    /// The embedding of a text; none if it can't be read.
    ///
    /// # Errors
    /// In the library's words; there should be none.
    pub(super) fn embed(&self, text: &str) -> std::result::Result<Option<Vec<f32>>, String> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding = encoding.map_err(|error| error.to_string())?;
        let words = encoding.get_ids();
        let is_known = |word: &u32| Some(*word) != self.unknown;
        if words.len() > MAX_WORDS || words.len() <= 2 || !words.iter().all(is_known) {
            return Ok(None);
        }
        self.vector(words)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    fn vector(&self, words: &[u32]) -> Result<Vec<f32>> {
        let cpu = &Device::Cpu;
        let count = words.len();
        let places = Tensor::arange(0, count as u32, cpu)?;
        let kinds = Tensor::zeros(count, DType::U32, cpu)?;
        let words = self.words.forward(&Tensor::new(words, cpu)?)?;
        let all = ((words + self.kinds.forward(&kinds)?)? + self.places.forward(&places)?)?;
        let mut states = self.norm.forward(&all)?;
        for layer in &self.layers {
            states = layer.forward(&states)?;
        }
        states.mean(0)?.to_vec1()
    }
}

/// Attention, and what follows it.
#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    joined: Linear,
    joined_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load(weights: &VarBuilder<'_>) -> Result<Self> {
        let square = |name: &str| candle_nn::linear(WIDTH, WIDTH, weights.pp(name));
        let norm = |name: &str| candle_nn::layer_norm(WIDTH, EPSILON, weights.pp(name));
        Ok(Layer {
            query: square("attention.self.query")?,
            key: square("attention.self.key")?,
            value: square("attention.self.value")?,
            joined: square("attention.output.dense")?,
            joined_norm: norm("attention.output.LayerNorm")?,
            widen: candle_nn::linear(WIDTH, INNER_WIDTH, weights.pp("intermediate.dense"))?,
            narrow: candle_nn::linear(INNER_WIDTH, WIDTH, weights.pp("output.dense"))?,
            norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let count = states.dim(0)?;
        // (words, width) to (heads, words, width of a head)
        let split = |states: Tensor| {
            states
                .reshape((count, HEADS, WIDTH / HEADS))?
                .transpose(0, 1)?
                .contiguous()
        };
        let query = split(self.query.forward(states)?)?;
        let key = split(self.key.forward(states)?)?;
        let value = split(self.value.forward(states)?)?;
        let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
        let weights = (query.matmul(&key.t()?)? * scale)?;
        let weights = candle_nn::ops::softmax_last_dim(&weights)?;
        let heard = weights.matmul(&value)?.transpose(0, 1)?;
        let heard = heard.reshape((count, WIDTH))?;
        let joined = (self.joined.forward(&heard)? + states)?;
        let joined = self.joined_norm.forward(&joined)?;
        let inner = self.widen.forward(&joined)?.gelu_erf()?;
        self.norm.forward(&(self.narrow.forward(&inner)? + joined)?)
    }
}
