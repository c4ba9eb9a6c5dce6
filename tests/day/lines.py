"""Lines that people write in a ``forward`` and an ``__init__`` (those that begin with !), of inputs x and y of these shapes.

Floating point is float64 for PyTorch, which is why some lines say ``.to(x)``."""

LINES = '''
@@ [(2,3,4,5)]
x.mul_(2)
return x + 1
@@ [(2,3,4,5)]
x = x.clone()
x[:, 0] = 0
return x
@@ [(2,3,4,5)]
x = x * 1
x[:, 1] *= 2
return x
@@ [(2,3,4,5)]
z = torch.zeros_like(x)
z[:, :2] = x[:, 1:]
return z + x
@@ [(2,3,4,5)]
return (x == x.max()).float() * x
@@ [(2,3,4,5)]
m = (x != 0)
return x.masked_fill(~m, 1.0), m
@@ [(2,3,4,5)]
a, b = torch.split(x, 2, dim=-1)[:2]
return torch.stack([a, b], -1).flatten(-2)
@@ [(2,6)]
return torch.relu_(x * 2)
@@ [(2,3,4,5)]
with torch.no_grad():
    m = x.mean((2, 3), keepdim=True)
return x - m
@@ [(2,3,4,5)]
!self.l = nn.Conv2d(3, 3, 1)
with torch.no_grad():
    t = self.l(x)
return self.l(x) - t.detach()
@@ [(2,3,4,5)]
if x.dtype == torch.float16: return x
return x.to(torch.float32) if x.is_floating_point() else x
@@ [(2,3,8)]
for i in range(x.shape[1]):
    x = x + x[:, i:i+1] * 0.1
return x
@@ [(2,3,8)]
return sum([x[:, i] for i in range(3)])
@@ [(2,3,8)]
return torch.cat([t.unsqueeze(1) for t in x.unbind(1)][::-1], 1)
@@ [(2,3,8)]
o = []
for t in x.split(2, -1): o.append(t.amax(-1, True))
return torch.cat(o, -1)
@@ [(2,3,8)]
return x.std(dim=(0, 2), keepdim=True, unbiased=False), x.var(1)
@@ [(2,3,8)]
return torch.var_mean(x, dim=1), torch.std_mean(x, -1, keepdim=True)
@@ [(2,4,8)]
h = x.view(2, 2, 2, 8).transpose(1, 2).contiguous().view(2, 4, 8)
return h, h.shape[0] * h
@@ [(2,4,8)]
B = x.shape[0]
i = torch.arange(B)
return x[i, i]
@@ [(2,4,8),((2,),4)]
return x[torch.arange(2), y]
@@ [(2,4,8),((2,3),4)]
return torch.gather(x, 1, y.unsqueeze(-1).expand(-1, -1, 8))
@@ [(2,4,8),((2,3),4)]
return x.scatter_add(1, y[:, :, None].repeat(1, 1, 8), torch.ones(2, 3, 8).type_as(x))
@@ [(4,8),((4,),5)]
return F.one_hot(y, 5).type_as(x).t() @ x
@@ [(4,8),((4,),5)]
return F.cross_entropy(x, y, reduction='none'), F.nll_loss(F.log_softmax(x, -1), y)
@@ [(4,8)]
return x.topk(3).values.mean(), x.sort(descending=True)[0], x.argsort(dim=0)
@@ [(4,8)]
v, i = x.max(dim=1, keepdim=True)
return v * 2, i + 1
@@ [(4,8)]
return x.norm(p=2, dim=1, keepdim=True), torch.norm(x), x.norm(1)
@@ [(4,8)]
return torch.einsum('bi,bj->bij', x, x), torch.einsum('bi,bi->b', [x, x])
@@ [(4,8)]
return torch.outer(x[0], x[1]), torch.dot(x[0], x[1])
@@ [(4,8)]
return torch.tril(x @ x.t(), diagonal=-1), torch.triu(torch.ones(4, 4), 1).bool()
@@ [(2,5,8)]
mask = torch.triu(torch.full((5, 5), float('-inf')), diagonal=1)
a = x @ x.mT
return (a + mask).softmax(-1) @ x
@@ [(2,5,8)]
mask = torch.tril(torch.ones(5, 5)).view(1, 5, 5)
a = x @ x.transpose(1, 2)
a = a.masked_fill(mask == 0, float('-inf'))
return F.softmax(a, dim=-1)
@@ [(2,5,8)]
return F.scaled_dot_product_attention(x, x, x, is_causal=True)
@@ [(2,5,8)]
!self.a = nn.MultiheadAttention(8, 2, batch_first=True)
o, w = self.a(x, x, x, need_weights=True, average_attn_weights=False)
return o, w
@@ [(2,5,8)]
!self.a = nn.LSTM(8, 4, batch_first=True, proj_size=0)
o, (h, c) = self.a(x, (x.new_zeros(1, 2, 4), x.new_zeros(1, 2, 4)))
return o[:, -1, :], h, c
@@ [(2,5,8)]
!self.a = nn.GRU(8, 4, 2, batch_first=True, bidirectional=True)
!self.f = nn.Linear(8, 2)
o, h = self.a(x)
return self.f(o.mean(1)), h.view(2, 2, 2, 4)[-1]
@@ [(2,5,8)]
!self.a = nn.RNN(8, 4, nonlinearity='relu')
return self.a(x)[0]
@@ [(2,3,8)]
!self.a = nn.LSTMCell(8, 4)
h = c = torch.zeros_like(x[:, 0, :4])
out = []
for t in range(3):
    h, c = self.a(x[:, t], (h, c))
    out += [h]
return torch.stack(out, 1)
@@ [(2,3,6,6)]
return F.unfold(x, 3, padding=1).view(2, 3, 9, 36).sum(2).view(2, 3, 6, 6)
@@ [(2,3,6,6)]
return x.unfold(2, 2, 2).unfold(3, 2, 2).contiguous().view(2, 3, 3, 3, 4).amax(-1)
@@ [(2,3,6,6)]
g = F.affine_grid(torch.eye(2, 3).unsqueeze(0).repeat(2, 1, 1).to(x), x.size(), align_corners=False)
return F.grid_sample(x, g * 0.9, mode='bilinear', padding_mode='border', align_corners=False)
@@ [(2,3,6,6)]
return F.interpolate(x, size=(9, 4), mode='bicubic', align_corners=True)
@@ [(2,3,6,6)]
return F.interpolate(x, scale_factor=0.5, mode='area')
@@ [(2,3,6,6)]
return F.max_pool2d(x, 3, 2, 1, return_indices=True)
@@ [(2,3,6,6)]
y, i = F.max_pool2d(x, 2, return_indices=True)
return F.max_unpool2d(y, i, 2)
@@ [(2,3,6,6)]
return F.pad(x, (1, 2, 0, 3), 'circular'), F.pad(x, (1, 1), value=2.5), F.pad(x, (-1, 0, 0, -2))
@@ [(2,3,6,6)]
return torch.roll(x, (1, -2), (2, 3)), x.flip([2, 3]), torch.rot90(x, 1, (2, 3))
@@ [(2,4,6,6)]
return F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 3), F.channel_shuffle(x, 2)
@@ [(2,4,6,6)]
!self.n = nn.BatchNorm2d(4, track_running_stats=False)
!self.m = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
return self.n(x) + self.m(x)
@@ [(2,4,6,6)]
!self.n = nn.BatchNorm2d(4, momentum=None)
!self.m = nn.GroupNorm(1, 4, affine=False)
return self.n(self.m(x))
@@ [(2,4,6,6)]
!self.n = nn.LayerNorm([4, 6, 6])
!self.r = nn.RMSNorm([6])
return self.r(self.n(x))
@@ [(2,4,6,6)]
!self.p = nn.Parameter(torch.rand(4, 1, 1))
!self.s = nn.Parameter(torch.tensor(0.5))
return torch.where(x > 0, x, self.p * x) * self.s.sigmoid() + self.s ** 2
@@ [(2,4,6,6)]
!self.w = nn.Parameter(torch.randn(4, 4, 3, 3))
w = self.w / (self.w.pow(2).sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
return F.conv2d(x, w, padding=1)
@@ [(2,4,6,6),(2,4)]
!self.w = nn.Parameter(torch.randn(1, 5, 4, 3, 3))
b = x.shape[0]
w = self.w * y.view(b, 1, 4, 1, 1)
d = torch.rsqrt(w.pow(2).sum([2, 3, 4]) + 1e-8)
w = (w * d.view(b, 5, 1, 1, 1)).view(b * 5, 4, 3, 3)
return F.conv2d(x.view(1, b * 4, 6, 6), w, padding=1, groups=b).view(b, 5, 6, 6)
@@ [(2,4,6,6)]
!self.c = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=d, dilation=d) for d in (1, 2)])
return torch.cat([c(x) for c in self.c], dim=1), torch.stack([c(x) for c in self.c]).mean(0)
@@ [(2,4,6,6)]
!self.c = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
return self.c[0](x), self.c[-1](x), len(self.c) * x
@@ [(2,4,6,6)]
f = torch.flatten(x, 2).permute(0, 2, 1)
g = torch.matmul(f.transpose(1, 2), f) / f.size(1)
return g.view(2, -1), torch.sign(g) * torch.sqrt(torch.abs(g) + 1e-10)
@@ [(2,4,6,6)]
a = x.mean([2, 3], True)
b = x.amax((2, 3), keepdim=True)
return torch.sigmoid(a + b).expand_as(x) * x
@@ [(2,4,6,6)]
return torch.chunk(x, 2, 1)[0] * torch.tanh(x.chunk(2, dim=1)[1]), x.tensor_split(3, 1)
@@ [(2,4,6,6)]
return x[:, [0, 2]], x[:, torch.tensor([1, 1, 3])], x[..., -1], x[:, :, ::2, 1::2], x[:, None, 0]
@@ [(2,4,6,6)]
return x[x.shape[0] - 1], x[-1, 1], x[0, ..., 2:4]
@@ [(2,4,6,6)]
return x.new_zeros(2, 3) + 1, x.new_ones((2, 2)), x.new_full((1,), 2.0), x.new_tensor([1.0, 2.0])
@@ [(2,4,6,6)]
return torch.clamp(x, -0.5, 0.5), x.clamp(min=0), torch.clip(x, max=0.1), x.clamp_min(0.2)
@@ [(2,4,6,6)]
return torch.floor(x).long(), x.round().int(), (x > 0) & (x < 1), ~(x > 0), (x > 0) | (x < -1), (x > 0) ^ (x > 1)
@@ [(2,4,6,6)]
return x.ge(0).sum(), (x > 0).any(1), (x > 0).all(), (x > 0).float().mean()
@@ [(2,4,6,6)]
return torch.logsumexp(x, (2, 3)), x.cumsum(1), torch.cumprod(x, -1), x.prod(1), torch.diff(x), x.sum()
@@ [(2,4,6,6)]
return x.view(2, -1).argmax(-1), x.argmin(), x.min(2)[1], torch.max(x, x * 2), torch.minimum(x, x.mean())
@@ [(2,4,6,6)]
return {"a": x, "b": [x * 2, (x, x + 1)], "c": {"d": x.sum()}}
@@ [(2,4,6,6)]
return F.dropout(x, 0.5, training=False), F.gelu(x, approximate='tanh'), F.softplus(x, 2)
@@ [(2,4,6,6)]
return F.leaky_relu(x, negative_slope=0.3), F.hardtanh(x, -2, 2), F.glu(x, 1), F.threshold(x, 0.1, 2)
@@ [(2,4,6,6)]
return torch.addcmul(x, x, x, value=0.5), torch.lerp(x, x * 2, 0.3), torch.addmm(x[0, 0], x[0, 1], x[0, 2])
@@ [(2,4,6,6)]
return torch.baddbmm(x[0], x[0], x[0], beta=0.5)
@@ [(2,3,7)]
return x.repeat_interleave(2, dim=1), x.repeat(1, 2, 1), x.tile(2), torch.tile(x, (2, 1, 1))
@@ [(2,3,7)]
return x.movedim(0, -1), x.swapaxes(1, 2), torch.swapdims(x, 0, 1), x.T if x.ndim == 2 else x.mT, x.squeeze()
@@ [(2,3,7)]
return x[:, :1].squeeze(1), x.unflatten(1, (3, 1))
@@ [(2,3,7)]
return torch.bmm(x, x.permute(0, 2, 1)), x.matmul(x.transpose(1, 2)), torch.cdist(x, x)
@@ [(2,3,7)]
return F.cosine_similarity(x, x.flip(1), dim=2), F.pairwise_distance(x[0], x[1])
@@ [(2,3,7)]
return torch.meshgrid(x[0, 0], x[0, 1], indexing='xy'), torch.linspace(0, 1, 5), torch.arange(0, 1, 0.25)
@@ [(2,3,7)]
return torch.eye(3), torch.full((2,), 3)
@@ [(2,3,7)]
return torch.diagonal(x, dim1=1, dim2=2), torch.diag_embed(x), x[0].trace(), x.diagonal(0, 1, 2).sum(-1)
@@ [(2,3,7)]
return torch.nan_to_num(x / 0 * 0), torch.isnan(x), torch.isfinite(x), torch.isinf(x / 0)
@@ [(2,3,4,5)]
z = torch.zeros_like(x)
z[:, :2] = x[:, 1:]
return z + x
@@ [(2,3,4,5)]
x = x * 2
y = x[:, 1]
y += 3
y.mul_(2)
return x, y
@@ [(2,3,4,5)]
x = x * 2
v = x.view(2, 12, 5)
v[:, ::2] = 0
w = x.transpose(1, 2)
w[:, 0, 1] = 7.0
return x, v, w.sum(1)
@@ [(2,3,4,5)]
x = x * 2
a = x.sum()
x.add_(1)
return a, x.sum()
@@ [(2,3,4,5)]
x = x + 0
x[..., 1:3] = x[..., 2:4] * 2
return x
@@ [(2,3,4,5)]
x = x + 0
x[x > 0.5] = 0.5
x[x.abs() < 0.1] = 0
return x
@@ [(2,3,4,5)]
x = x.clone()
x[:, [0, 2]] = 1.5
x[0, 1] = -1
return x
@@ [(2,6,4)]
b, t, c = x.shape
out = torch.zeros(b, t, 2 * c).type_as(x)
out[..., 0::2] = x
out[..., 1::2] = -x
return out
@@ [(2,4,6,6)]
fold = 1
out = torch.zeros_like(x)
out[:-1, :fold] = x[1:, :fold]
out[1:, fold: 2 * fold] = x[:-1, fold: 2 * fold]
out[:, 2 * fold:] = x[:, 2 * fold:]
return out
@@ [(2,3,8,8)]
B, C, H, W = x.shape
img_mask = torch.zeros((1, H, W, 1))
cnt = 0
for h in (slice(0, -4), slice(-4, -2), slice(-2, None)):
    for w in (slice(0, -4), slice(-4, -2), slice(-2, None)):
        img_mask[:, h, w, :] = cnt
        cnt += 1
m = img_mask.view(1, 2, 4, 2, 4, 1).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16)
a = m.unsqueeze(1) - m.unsqueeze(2)
a = a.masked_fill(a != 0, float(-100.0)).masked_fill(a == 0, float(0.0))
return x * a[0, 0, 0], a
@@ [(2,3,8)]
x = x.permute(0, 2, 1).contiguous()
x.relu_()
return x
@@ [(2,3,8)]
y = x.clone().zero_().fill_(2.0)
y.copy_(x)
return y * x
@@ [(2,3,8)]
y = x.detach().clone()
y.clamp_(min=0).sqrt_()
return x * y
@@ [(2,3,8)]
!self.register_buffer("pe", torch.arange(24).float().view(1, 3, 8))
!self.register_buffer("i", torch.tensor([2, 0]))
return x + self.pe[:, :x.size(1)], x[:, self.i], x.index_select(2, self.i)
@@ [(2,3,8)]
!self.idx = torch.arange(3).flip(0)
!self.m = torch.ones(3, 8).tril().bool()
return x[:, self.idx], x.masked_fill(~self.m, -1.0), torch.where(self.m, x, torch.zeros_like(x))
@@ [(2,3,8)]
!self.h = nn.Parameter(torch.Tensor(3, 8).fill_(0.5))
!nn.init.xavier_uniform_(self.h)
return x * self.h
@@ [(2,3,8)]
!self.c = nn.Conv1d(3, 4, 3)
!with torch.no_grad():
!    self.c.weight.fill_(0.1)
!    self.c.bias.zero_()
!    self.c.weight[0].mul_(2)
return self.c(x)
@@ [(2,3,8)]
!self.c = nn.Conv1d(3, 4, 3)
!self.c.weight.data[:2] = 0.3
!self.c.weight.data *= 0.5
!self.c.bias.data += 1
return self.c(x)
@@ [(2,3,8)]
!self.c = nn.Conv1d(3, 4, 3)
!for n, p in self.named_parameters():
!    if "bias" in n: p.data.fill_(0.01)
!    elif p.dim() > 1: nn.init.kaiming_normal_(p.data)
return self.c(x)
@@ [(2,3,8)]
!self.g = nn.Parameter(torch.ones(1), requires_grad=True)
!self.w = nn.Parameter(torch.empty(8, 8))
!torch.nn.init.orthogonal_(self.w)
return (x @ self.w) * self.g.abs() + self.w.norm(), self.w.t()[0], self.w.shape[0] * x
@@ [(2,3,8)]
!self.g = nn.ParameterList([nn.Parameter(torch.randn(8)) for _ in range(2)])
!self.d = nn.ParameterDict({"a": nn.Parameter(torch.zeros(3, 1))})
return sum(p * x for p in self.g) + self.d["a"]
@@ [(2,3,8)]
!self.acts = nn.ModuleDict([["lrelu", nn.LeakyReLU()], ["prelu", nn.PReLU()]])
!self.id = nn.Identity()
!self.seq = nn.Sequential(); self.seq.append(nn.Linear(8, 4)); self.seq.add_module("r", nn.Tanh())
return self.id(self.acts["prelu"](x)), self.seq(x), self.acts.lrelu(x) if hasattr(self.acts, "lrelu") else x
@@ [(2,3,8)]
return torch.Tensor.relu(x), torch.Tensor.add(x, 1)
@@ [(2,3,8)]
assert isinstance(x, torch.Tensor)
assert torch.is_tensor(x) and x.requires_grad in (True, False)
return x.sum(dim=-1, dtype=torch.float32)
@@ [(2,3,8)]
d = x.device
return torch.zeros(1, device=d) + torch.ones((2, 3, 1), dtype=x.dtype, device=x.device) * x
@@ [(2,3,8)]
return x.square().sum().div(2).sqrt(), x.abs().log1p(), x.reciprocal().tanh(), x.erf(), x.exp().log()
@@ [(2,3,8)]
n = x.numel()
return x.view(-1)[: n // 2], x.reshape(x.size()[0], -1), x.view(x.shape[0], x.shape[1] * x.shape[2])
@@ [(2,3,8)]
return [t for t in x[0].unbind()], x.split([3, 5], dim=2)[1], torch.stack(tuple(x[0])), list(x)[1]
@@ [(2,3,8)]
a, b = x.shape[-2:]
assert x.shape == (2, 3, 8) and x.size() == torch.Size([2, 3, 8]) and list(x.shape) == [2, 3, 8]
return x * (a + b)
@@ [(4,8),(4,8)]
return F.mse_loss(x, y), F.l1_loss(x, y, reduction='sum'), F.smooth_l1_loss(x, y, beta=0.5)
@@ [(4,8),(4,8)]
return F.huber_loss(x, y, delta=0.7), F.kl_div(x.log_softmax(1), y.softmax(1), reduction='batchmean')
@@ [(4,8),(4,8)]
t = (y > 0).to(x)
return F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor([2.0]).to(x))
@@ [(4,8),(4,8)]
t = (y > 0).to(x)
return F.binary_cross_entropy(x.sigmoid(), t, weight=t + 1), F.soft_margin_loss(x, t * 2 - 1)
@@ [(4,8),(4,8)]
d = (x - y).pow(2).sum(1).add(1e-6).sqrt()
p = torch.exp(-d)
inter = (x.sigmoid() * y.sigmoid()).sum()
return 1 - (2. * inter + 1) / (x.sigmoid().sum() + y.sigmoid().sum() + 1), p / p.sum(), -torch.log(p + 1e-8).mean()
@@ [(4,8),(4,8)]
z = torch.cat([x, y]); z = F.normalize(z, dim=1)
sim = torch.mm(z, z.T) / 0.5
mask = torch.eye(8, dtype=torch.bool)
sim = sim.masked_fill(mask, -9e15)
pos = torch.roll(mask, 4, 0)
nll = -(sim * pos.float()).sum(-1) + torch.logsumexp(sim, dim=-1)
return nll.mean()
@@ [(4,8),((4,),8)]
logp = F.log_softmax(x, dim=-1)
w = torch.zeros_like(logp).fill_(0.1 / 7).scatter_(1, y.unsqueeze(1), 0.9)
return torch.mean(torch.sum(-w * logp, dim=-1)), logp.gather(1, y.view(-1, 1)).squeeze(1)
@@ [(4,8),((4,),8)]
m = F.one_hot(y, num_classes=8).bool()
return (x * m).sum(1), torch.where(m, x - 0.5, x), (x.argmax(1) == y).float().mean()
@@ [(2,3,6,6)]
return torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3).to(x).repeat(3, 1, 1, 1), padding=1, groups=3)
@@ [(2,3,6,6)]
return nn.functional.relu(x)
@@ [(2,3,6,6)]
return x.mean(), torch.mean(x, dim=1, keepdim=True), torch.max(x), torch.amax(x, (1, 2)), x.sum((-1, -2)).median(1)[0]
@@ [(2,3,6,6)]
h = x.size(2) // 2
x1, x2 = x[:, :, :h], x[:, :, h:]
return torch.cat((x1, x2), -2), torch.hstack([x1, x2]), torch.vstack((x, x))
@@ [(1,3,6,6)]
return F.relu(x).squeeze(0), x[0].permute(1, 2, 0), x.expand(2, -1, -1, -1)
@@ [(2,1,1,1)]
return x.squeeze(), x.view(2), x.flatten(), x.mean(0)
@@ [(2,5,12)]
!self.qkv = nn.Linear(12, 36)
q, k, v = self.qkv(x).reshape(2, 5, 3, 2, 6).permute(2, 0, 3, 1, 4)
return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
@@ [(3,5)]
a, b, c = x
return a * b + c, [row.sum() for row in x], sum(x)
'''
