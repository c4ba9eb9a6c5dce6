"""More networks: sequences, generators, points, graphs, sets, as `networks.py` has them."""

SOURCE = '''
{imports}
import math
from collections import OrderedDict
from functools import partial


class MaskedConv2d(nn.Conv2d):
    def __init__(self, mask_type, *args, **kwargs):
        super().__init__(*args, **kwargs)
        assert mask_type in ("A", "B")
        _, _, kH, kW = self.weight.size()
        mask = np.ones(tuple(self.weight.shape), np.float32)
        mask[:, :, kH // 2, kW // 2 + (mask_type == "B"):] = 0
        mask[:, :, kH // 2 + 1:] = 0
        self.register_buffer("mask", torch.from_numpy(mask))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding, self.dilation, self.groups)


class PixelCNN(nn.Module):
    def __init__(self, n=6):
        super().__init__()
        self.net = nn.Sequential(MaskedConv2d("A", 1, n, 7, 1, 3, bias=False), nn.BatchNorm2d(n), nn.ReLU(True),
                                 MaskedConv2d("B", n, n, 7, 1, 3, bias=False), nn.BatchNorm2d(n), nn.ReLU(True),
                                 nn.Conv2d(n, 16, 1))

    def forward(self, x):
        return F.log_softmax(self.net(x), dim=1)


class CausalWaveNet(nn.Module):
    def __init__(self, layers=3, blocks=2, channels=6, classes=16):
        super().__init__()
        self.embed = nn.Embedding(classes, channels)
        self.dilations = [2 ** (i % layers) for i in range(layers * blocks)]
        self.filter_convs, self.gate_convs = nn.ModuleList(), nn.ModuleList()
        self.residual_convs, self.skip_convs = nn.ModuleList(), nn.ModuleList()
        for d in self.dilations:
            self.filter_convs.append(nn.Conv1d(channels, channels, kernel_size=2, dilation=d))
            self.gate_convs.append(nn.Conv1d(channels, channels, kernel_size=2, dilation=d))
            self.residual_convs.append(nn.Conv1d(in_channels=channels, out_channels=channels, kernel_size=1))
            self.skip_convs.append(nn.Conv1d(in_channels=channels, out_channels=2 * channels, kernel_size=1, bias=True))
        self.end_conv_1, self.end_conv_2 = nn.Conv1d(2 * channels, 8, 1), nn.Conv1d(8, classes, 1)

    def forward(self, input):
        x = self.embed(input).transpose(1, 2)
        skip = 0
        for i, d in enumerate(self.dilations):
            residual = x
            f = torch.tanh(self.filter_convs[i](residual))
            g = torch.sigmoid(self.gate_convs[i](residual))
            x = f * g
            s = self.skip_convs[i](x)
            try:
                skip = skip[:, :, -s.size(2):]
            except TypeError:
                skip = 0
            skip = s + skip
            x = self.residual_convs[i](x)
            x = x + residual[:, :, d:]
        x = F.relu(skip)
        x = F.relu(self.end_conv_1(x))
        x = self.end_conv_2(x)
        n, c, l = x.size()
        l = 4
        x = x[:, :, -l:]
        x = x.transpose(1, 2).contiguous()
        x = x.view(n * l, c)
        return x


class CGenerator(nn.Module):
    def __init__(self, n_classes=10, latent_dim=12, ngf=4, img_shape=(1, 16, 16)):
        super().__init__()
        self.label_emb = nn.Embedding(n_classes, n_classes)
        self.img_shape = img_shape

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(*block(latent_dim + n_classes, 16, normalize=False), *block(16, ngf * 2 * 16),
                                   nn.Unflatten(1, (ngf * 2, 4, 4)))
        self.main = nn.Sequential(
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 1, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, noise, labels):
        gen_input = torch.cat((self.label_emb(labels), noise), -1)
        img = self.main(self.model(gen_input))
        img = img.view(img.size(0), *self.img_shape)
        return img


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4),
                                 nn.Dropout2d(p=0.0), nn.MaxPool2d(2, stride=2), nn.ReflectionPad2d((1, 1, 1, 1)),
                                 nn.Conv2d(4, 8, 3), nn.ReLU(inplace=True),
                                 nn.LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=2))
        self.fc = nn.Sequential(nn.Linear(8 * 6 * 5, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))
        self.loss = nn.TripletMarginLoss(margin=1.0, p=2)

    def forward_once(self, x):
        output = self.cnn(x)
        output = output.view(output.size()[0], -1)
        return F.normalize(self.fc(output), dim=1)

    def forward(self, a, p, n):
        a, p, n = self.forward_once(a), self.forward_once(p), self.forward_once(n)
        d = F.pairwise_distance(a, p, keepdim=True)
        cos = F.cosine_similarity(a, n)
        return self.loss(a, p, n), d, cos


class BothWays(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.gru, self.out = nn.GRU(inputs, hidden, bidirectional=True), nn.Linear(hidden * 2, outputs)

    def forward(self, x):
        x, _ = self.gru(x)
        steps, n, features = x.size()
        return self.out(x.view(steps * n, features)).view(steps, n, -1)


class Recogniser(nn.Module):
    """Lines of text (Shi, Bai, Yao 2015): a column of features per step, recurrent layers, log-probabilities for CTC."""

    def __init__(self, classes=7, hidden=6):
        super().__init__()
        layers, before = nn.Sequential(), 1
        for i, (channels, pool) in enumerate([(4, ((2, 2), (2, 2))), (8, ((2, 2), (2, 1), (0, 1))), (8, ((4, 1),))]):
            layers.add_module(f"conv{i}", nn.Conv2d(before, channels, 3, 1, 1))
            if i == 1:
                layers.add_module("norm{0}".format(i), nn.BatchNorm2d(channels))
            layers.add_module("relu%d" % i, nn.LeakyReLU(0.2, inplace=True))
            layers.add_module(f"pool{i}", nn.MaxPool2d(*pool))
            before = channels
        self.layers, self.read = layers, nn.Sequential(BothWays(8, hidden, hidden), BothWays(hidden, hidden, classes))

    def forward(self, x):
        x = self.layers(x)
        assert x.size(2) == 1, "one row of features"
        return F.log_softmax(self.read(x.squeeze(2).permute(2, 0, 1)), dim=2)


class MlpBlock(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class MixerLayer(nn.Module):
    def __init__(self, dim, patches):
        super().__init__()
        norm_layer = partial(nn.LayerNorm, eps=1e-6)
        self.norm1, self.norm2 = norm_layer(dim), norm_layer(dim)
        self.token_mixing, self.channel_mixing = MlpBlock(patches, 8), MlpBlock(dim, 24)

    def forward(self, x):
        x = x + self.token_mixing(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channel_mixing(self.norm2(x))
        return x


class MLPMixer(nn.Module):
    def __init__(self, image_size=12, patch=4, dim=16, depth=2, num_classes=3):
        super().__init__()
        assert (image_size % patch) == 0, "image must be divisible by patch size"
        self.p = patch
        self.proj = nn.Linear(patch * patch * 3, dim)
        self.layers = nn.Sequential(*[MixerLayer(dim, (image_size // patch) ** 2) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_classes)

    def forward(self, img):
        b, c, h, w = img.shape
        p = self.p
        x = img.reshape(b, c, h // p, p, w // p, p)
        x = torch.einsum("nchpwq->nhwpqc", x)
        x = x.reshape(b, (h // p) * (w // p), p ** 2 * c)
        x = self.layers(self.proj(x))
        return self.head(self.norm(x).mean(dim=1))


class Straightened(nn.Module):
    """Spatial transformer (Jaderberg et al. 2015), which begins near the identity."""

    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 4, kernel_size=5), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
                                  nn.Conv2d(4, 4, kernel_size=3), nn.MaxPool2d(2, stride=2), nn.ReLU(True))
        self.place = nn.Sequential(nn.Linear(4 * 4 * 3, 8), nn.ReLU(True), nn.Linear(8, 3 * 2))
        self.place[2].weight.data.zero_()
        self.place[2].bias.data.copy_(torch.tensor([0.9, 0.1, 0, -0.1, 1.05, 0], dtype=torch.float))
        self.read = nn.Conv2d(1, 3, 5)

    def forward(self, x):
        theta = self.place(self.look(x).view(-1, 4 * 4 * 3)).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)
        return F.relu(F.max_pool2d(self.read(x), 2))


class ConvLSTMCell(nn.Module):
    def __init__(self, input_dim, hidden_dim, kernel_size=(3, 3), bias=True):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.conv = nn.Conv2d(in_channels=input_dim + hidden_dim, out_channels=4 * hidden_dim, kernel_size=kernel_size,
                              padding=(kernel_size[0] // 2, kernel_size[1] // 2), bias=bias)

    def forward(self, input_tensor, cur_state):
        h_cur, c_cur = cur_state
        combined = torch.cat([input_tensor, h_cur], dim=1)
        cc_i, cc_f, cc_o, cc_g = torch.split(self.conv(combined), self.hidden_dim, dim=1)
        i, f, o, g = torch.sigmoid(cc_i), torch.sigmoid(cc_f), torch.sigmoid(cc_o), torch.tanh(cc_g)
        c_next = f * c_cur + i * g
        return o * torch.tanh(c_next), c_next

    def init_hidden(self, batch_size, image_size):
        height, width = image_size
        return (torch.zeros(batch_size, self.hidden_dim, height, width, device=self.conv.weight.device),
                torch.zeros(batch_size, self.hidden_dim, height, width, device=self.conv.weight.device))


class ConvLSTM(nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.cell = ConvLSTMCell(2, hidden)

    def forward(self, x):
        b, seq_len, _, h, w = x.size()
        state = self.cell.init_hidden(b, (h, w))
        out = []
        for t in range(seq_len):
            state = self.cell(input_tensor=x[:, t, :, :, :], cur_state=state)
            out.append(state[0])
        return torch.stack(out, dim=1), state[1]


class PointNet(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 16, 1)
        self.bn1 = nn.BatchNorm1d(8)
        self.fc = nn.Linear(16, 9)
        self.head = nn.Linear(16, k)

    def forward(self, x):
        batchsize = x.size()[0]
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.conv2(y))
        y = torch.max(y, 2, keepdim=True)[0]
        y = y.view(-1, 16)
        iden = torch.eye(3).view(1, 9).repeat(batchsize, 1)
        trans = (self.fc(y) + iden).view(-1, 3, 3)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = torch.max(x, dim=2).values
        return F.log_softmax(self.head(x), dim=-1), trans


class SetPrediction(nn.Module):
    """Detection as a set (Carion et al. 2020): learned places, queries, two heads."""

    def __init__(self, hidden=16, heads=4, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, hidden, 1))
        self.transformer = nn.Transformer(hidden, heads, 1, 1, dim_feedforward=24, dropout=0.0)
        self.kind, self.box = nn.Linear(hidden, classes + 1), nn.Linear(hidden, 4)
        self.queries = nn.Parameter(torch.rand(5, hidden))
        self.rows, self.columns = nn.Parameter(torch.rand(10, hidden // 2)), nn.Parameter(torch.rand(10, hidden // 2))

    def forward(self, inputs):
        x = self.backbone(inputs)
        height, width = x.shape[-2:]
        places = torch.cat([self.columns[:width].unsqueeze(0).repeat(height, 1, 1),
                            self.rows[:height].unsqueeze(1).repeat(1, width, 1)], dim=-1).flatten(0, 1).unsqueeze(1)
        x = self.transformer(places + 0.1 * x.flatten(2).permute(2, 0, 1),
                             self.queries.unsqueeze(1).expand(-1, inputs.shape[0], -1)).transpose(0, 1)
        return {"kinds": self.kind(x), "boxes": self.box(x).sigmoid()}


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ELU(), nn.Flatten())
        self.mu, self.logvar = nn.Linear(4 * 16, 3), nn.Linear(4 * 16, 3)
        self.dec = nn.Linear(3, 64)

    def encode(self, x):
        h = self.enc(x)
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def forward(self, x, eps):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar, eps)
        recon = torch.sigmoid(self.dec(z)).view_as(x)
        BCE = F.binary_cross_entropy(recon, x.sigmoid().detach(), reduction='sum')
        KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return recon, BCE + KLD


class LoRALinear(nn.Linear):
    def __init__(self, in_features, out_features, r=2, alpha=4):
        super().__init__(in_features, out_features)
        self.A = nn.Parameter(self.weight.new_zeros((r, in_features)))
        self.B = nn.Parameter(torch.zeros(out_features, r))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.normal_(self.B)
        self.scaling = alpha / r
        self.weight.requires_grad = False

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + (x @ self.A.transpose(0, 1) @ self.B.T) * self.scaling


class TextCNN(nn.Module):
    """Kim 2014, with embedding, three widths, lengths as mask, LoRA head."""

    def __init__(self, vocab=20, dim=8, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv2d(1, 4, (k, dim)) for k in (2, 3, 4)])
        self.lstm = nn.LSTM(dim, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = LoRALinear(12 + 10, classes)

    def conv_and_pool(self, x, conv):
        x = F.relu(conv(x)).squeeze(3)
        x = F.max_pool1d(x, x.size(2)).squeeze(2)
        return x

    def forward(self, x):
        out = self.embedding(x)
        mask = (x != 0).float().unsqueeze(-1)
        h, (hn, cn) = self.lstm(out)
        pooled = (h * mask).sum(1) / mask.sum(1).clamp(min=1)
        out = out.unsqueeze(1)
        out = torch.cat([self.conv_and_pool(out, conv) for conv in self.convs] + [pooled], 1)
        return self.fc(out), torch.cat((hn[-2], hn[-1]), dim=1)


class GatedGraph(nn.Module):
    """Message passing with an adjacency given as an input; scatter, gather, masked softmax."""

    def __init__(self, f=5, h=6):
        super().__init__()
        self.W, self.a = nn.Linear(f, h, bias=False), nn.Parameter(torch.empty(size=(2 * h, 1)))
        nn.init.xavier_uniform_(self.a.data, gain=1.414)
        self.h = h
        self.gru = nn.GRUCell(h, h)

    def forward(self, x, adj):
        Wh = self.W(x)
        e1 = torch.matmul(Wh, self.a[:self.h, :])
        e2 = torch.matmul(Wh, self.a[self.h:, :])
        e = F.leaky_relu(e1 + e2.transpose(-1, -2), 0.2)
        zero_vec = -9e15 * torch.ones_like(e)
        attention = torch.where(adj > 0, e, zero_vec)
        attention = F.softmax(attention, dim=-1)
        masked = attention.masked_fill(adj <= 0, 0.0)
        h = F.elu(masked @ Wh)
        B, N, C = h.shape
        out = self.gru(h.reshape(-1, C), Wh.reshape(B * N, C)).view(B, N, C)
        return out, attention.max(dim=-1)[1]
'''

NETWORKS = {  # name: shapes of the inputs; of integers with what they are below
    "PixelCNN": [(2, 1, 9, 8)],
    "CausalWaveNet": [('int', (2, 24), 16)],
    "CGenerator": [(3, 12), ('int', (3,), 10)],
    "Siamese": [(3, 1, 12, 10), (3, 1, 12, 10), (3, 1, 12, 10)],
    "Recogniser": [(2, 1, 16, 12)],
    "MLPMixer": [(2, 3, 12, 12)],
    "Straightened": [(3, 1, 24, 20)],
    "ConvLSTM": [(2, 3, 2, 5, 6)],
    "PointNet": [(3, 3, 17)],
    "SetPrediction": [(2, 3, 12, 16)],
    "VAE": [(2, 1, 8, 8), (2, 3)],
    "TextCNN": [('int', (3, 9), 20)],
    "GatedGraph": [(2, 4, 5), (2, 4, 4)]}
